"""The gate before the encoder: what it captures and refuses, and how often strangers match, condition by condition.

    python -m benchmarks.device.gate BUNDLE --faces CROPS [--people 60]        -> benchmarks/results/gate.json

Frames are made of crops of people who are in no evaluation pair (`scenes.py`). Every second person serves to choose:
the limits were chosen on them, and the threshold is the cosine that 1.4 % of their upright pairs of strangers exceed.
All figures are of the others. Beside each condition stands the same with the gate off, where the largest face found is
taken; "uncovered" is what remains where covered faces are refused, too. Exit code 1: a target is missed.
"""

import json
import multiprocessing
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, NamedTuple

import cv2
import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.device.conditions import CONDITIONS
from benchmarks.device.scenes import Scene
from benchmarks.record import record, write
from edge_stscq._images import decode_image
from edge_stscq.bundle import Bundle, open_bundle
from edge_stscq.bundle.matcher import Matcher
from edge_stscq.cli.ui import progress_bar
from edge_stscq.data.crops import MAX_FILE_BYTES, open_crops
from edge_stscq.device import load_encoder
from edge_stscq.device.crop import crop_face
from edge_stscq.device.detect import Detector
from edge_stscq.device.quality import QualityGate
from edge_stscq.errors import EXIT_CHECK_FAILED, EdgeError
from edge_stscq.stream import CodedFace

UPRIGHT = "upright"
"""The condition that the threshold is fixed by."""
STRANGERS = 0.014
"""Share of upright strangers who match at the threshold."""
MOST_STRANGERS, MOST_UPRIGHT_REFUSED, LEAST_MILD = 0.02, 0.03, 0.9
"""Targets: strangers who match in any condition, upright faces refused, mild ones captured."""
LEAST_PAIRS = 100
"""Fewer pairs of strangers than this say nothing about a share of 2 %."""


class Seen(NamedTuple):
    """Result of one frame."""

    largest: CodedFace | None
    """With the gate off."""
    captured: CodedFace | None
    reason: str | None
    """Of the refusal."""
    covered: bool


class Camera:
    """Detector, gate, encoder and matcher of one bundle."""

    def __init__(self, bundle: Bundle) -> None:
        self.detector = Detector()
        self.gate = QualityGate(self.detector)
        self._encoder = load_encoder(bundle)
        self._matcher = Matcher.of(bundle)

    def see(self, frame: NDArray[np.uint8]) -> Seen:
        """Judge all faces of a frame, largest first, until one passes."""
        faces = self.detector.faces(frame)
        if not faces:
            return Seen(None, None, "no face", False)
        largest = self._encoder.encode(crop_face(frame, faces[0].points))
        judgements = []
        for face in faces:
            judgements.append(judgement := self.gate.judge(frame, face))
            if judgement.refusal is None:
                covered = any(verdict.reason == "covered" and not verdict.passed for verdict in judgement.verdicts)
                return Seen(largest, self._encoder.encode(judgement.crop), None, covered)
        first = judgements[0].refusal
        return Seen(largest, None, None if first is None else first.reason, False)

    def strangers(self, faces: Iterable[CodedFace | None]) -> NDArray[np.float32]:
        """Cosines of all pairs of different people, `[N (N - 1) / 2]`; each face is another person's."""
        found = [face for face in faces if face is not None]
        units = self._matcher.embed(found)
        cosines: NDArray[np.float32] = (units @ units.T)[np.triu_indices(len(found), 1)]
        return cosines


_camera: Camera
"""Of this worker."""


def start(bundle: Path) -> None:
    """Begin a worker."""
    global _camera
    cv2.setNumThreads(1)
    _camera = Camera(open_bundle(bundle))


def see_all(condition: str, crops: Mapping[str, NDArray[np.uint8]]) -> list[Seen]:
    """In a worker: the crops of people, by name, under a condition."""
    scene = next(scene for scene in CONDITIONS if scene.name == condition)
    return [_camera.see(scene.frame(crop, name)) for name, crop in crops.items()]


def read_people(source: Path) -> dict[str, NDArray[np.uint8]]:
    """One training crop `uint8 [144, 144, 3]` of each person of a `.tar` or folder, by name ("Ann_Lee")."""
    with open_crops(source, MAX_FILE_BYTES) as (files, read):
        of = {PurePosixPath(file).stem.rpartition("_")[0]: file for file in sorted(files, reverse=True)}
        return {name: decode_image(read(of[name])) for name in sorted(of)}


def spread(people: Mapping[str, Any], first: int, count: int) -> list[str]:
    """Every second name from `first` (0 or 1) on, `count` of them, evenly spread."""
    names = sorted(people)[first::2]
    if len(names) < count:
        raise EdgeError(f"there are {len(names)} people in this half, not {count}; give --people {len(names)}")
    return [names[index * len(names) // count] for index in range(count)]


def matches(cosines: NDArray[np.float32], threshold: float) -> dict[str, Any]:
    """Pairs of strangers, and those that match."""
    return {"pairs": len(cosines), "matched": int((cosines >= threshold).sum())}


def report(scene: Scene, seen: list[Seen], camera: Camera, threshold: float) -> dict[str, Any]:
    """One condition's part of the results."""
    return {
        "name": scene.name, "mild": scene.mild, "frames": len(seen),
        "captured": sum(one.captured is not None for one in seen),
        "refused": dict(Counter(one.reason for one in seen if one.reason is not None).most_common()),
        "strangers": matches(camera.strangers(one.captured for one in seen), threshold),
        "uncovered": {
            "captured": sum(one.captured is not None and not one.covered for one in seen),
            "strangers": matches(camera.strangers(None if one.covered else one.captured for one in seen), threshold),
        },
        "gate_off": {
            "captured": sum(one.largest is not None for one in seen),
            "strangers": matches(camera.strangers(one.largest for one in seen), threshold),
        },
    }  # fmt: skip


def shortfalls(conditions: Iterable[Mapping[str, Any]]) -> list[str]:
    """The targets that are missed, in words."""
    found = []
    for each in conditions:
        captured, pairs = each["captured"] / each["frames"], each["strangers"]["pairs"]
        if pairs >= LEAST_PAIRS and (share := each["strangers"]["matched"] / pairs) > MOST_STRANGERS:
            found.append(f"{each['name']}: {share:.1%} of strangers match, more than {MOST_STRANGERS:.0%}")
        if each["name"] == UPRIGHT and captured < 1 - MOST_UPRIGHT_REFUSED:
            found.append(f"{each['name']}: {1 - captured:.1%} refused, more than {MOST_UPRIGHT_REFUSED:.0%}")
        if each["mild"] and captured < LEAST_MILD:
            found.append(f"{each['name']}: {captured:.1%} captured, fewer than {LEAST_MILD:.0%}")
    return found


def main(
    bundle: Annotated[Path, typer.Argument(help="Bundle with the encoder.")],
    faces: Annotated[Path, typer.Option(help="Folder or .tar of training crops of 144 px, NAME_0001.webp.")],
    people: Annotated[int, typer.Option(min=30, help="People of each half.")] = 60,
    upright: Annotated[int, typer.Option(min=30, help="People who are seen upright, of each half.")] = 300,
    half: Annotated[int, typer.Option(min=0, max=1, help="1 reports; 0 chooses limits.")] = 1,
    only: Annotated[list[str] | None, typer.Option(help="Only these conditions, and upright.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record and write no file.")] = False,
) -> None:
    """Write benchmarks/results/gate.json."""
    crops, camera = read_people(faces), Camera(open_bundle(bundle))
    scenes = [scene for scene in CONDITIONS if not only or scene.name in {UPRIGHT, *only}]
    names = {scene: spread(crops, half, upright if scene.name == UPRIGHT else people) for scene in scenes}
    tasks = [(UPRIGHT, spread(crops, 0, people)), *((scene.name, names[scene]) for scene in scenes)]
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, spawn, start, (bundle,))
    with pool, progress_bar("conditions", len(tasks)) as progress:
        running = [pool.submit(see_all, name, {one: crops[one] for one in of}) for name, of in tasks]
        answers = []
        for future in running:
            answers.append(future.result())
            progress(1)
    threshold = float(np.quantile(camera.strangers(one.largest for one in answers[0]), 1 - STRANGERS))
    conditions = [report(scene, seen, camera, threshold) for scene, seen in zip(scenes, answers[1:], strict=True)]
    missed = shortfalls(conditions)
    results = {
        "threshold": round(threshold, 4), "strangers_at_threshold": STRANGERS, "half": half,
        "limits": camera.gate.limits.model_dump(), "conditions": conditions, "shortfalls": missed,
    }  # fmt: skip
    typer.echo(json.dumps(record(results)) if as_json else write("gate", results))
    for line in missed:
        typer.echo(line, err=True)
    if missed:
        raise typer.Exit(EXIT_CHECK_FAILED)


if __name__ == "__main__":
    typer.run(main)
