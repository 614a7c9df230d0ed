"""Crash recovery: no face is lost, stored twice, damaged or put under another's number by `kill -9`.

    python -m benchmarks.soak.crash_recovery [--model DIR]     -> benchmarks/results/kills.json

A producer puts faces into a spool, a sender drains it, a server stores what comes; each is a process of its own. Again
and again one of them is chosen by chance, killed at a random moment and started again. After a third of the kills the
camera's card is pulled, with its processes in the middle of something: it goes on with a new spool under the same
device name, and a second tool with a spool of its own begins beside it. In the end the pulled card is put back and
drained. Each spool numbers its faces from 0.

The faces are handed out over the kills, so that there is work under way to the last. In the end the store is held
against what was made. Each face has two frames, its basic layer and all its layers, so that completing one is killed,
too, and an envelope: a time, a visit's track and a quality.

A kill takes a process with all it has in memory; what was written is with the kernel. A power cut takes that, too, and
is what `synchronous=FULL` of both files is for, but nothing here tries it.

All state is in `--work`: the same command goes on where it was stopped.
"""

import contextlib
import json
import random
import sqlite3
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.record import write
from benchmarks.released import MODEL
from benchmarks.soak.fleet import BATCH, DEVICE, Fleet
from edge_stscq._files import write_file
from edge_stscq.client.spool import Spool
from edge_stscq.errors import EdgeError
from edge_stscq.stream import CodedFace, FrameCodec
from edge_stscq.stream.envelope import CapturedFace, Clock, WireFrame

NOON = 1_790_000_000_000
_COLUMNS = (
    "stream, sequence, device, model, coder, kind, clock, captured, track, quality, extensions, layers, payload, "
    "checksum"
)


def make_faces(codec: FrameCodec, count: int, seed: int = 0) -> list[CapturedFace]:
    """Faces of random tokens, no two alike, in visits of three with pauses of minutes and hours."""
    groups, tokens, entries = codec.entropy.shape
    draw, ends = np.random.default_rng(seed), codec.entropy.layer_ends
    faces, now = [], NOON
    for number in range(count):
        whole = CodedFace(int(draw.integers(groups)), draw.integers(entries, size=tokens).astype(np.uint16), len(ends))
        now += int(draw.choice((400, 400, 60_000, 3_600_000)))
        payloads = ((1, codec.payload(whole.truncate(1, ends))), (whole.layers, codec.payload(whole)))
        quality = None if number % 10 == 9 else int(draw.integers(101))
        faces.append(CapturedFace(codec.model_id, payloads, now, Clock.SYNCHRONIZED, number // 3, quality))
    return faces


def _row(frame: WireFrame) -> tuple[object, ...]:
    """The columns of a frame that is stored as it was captured."""
    source = frame.source
    return (
        source.stream_id, frame.number, source.device, source.model_id, source.coder_id, int(source.kind),
        int(source.clock), frame.captured_ms, frame.track, frame.quality, frame.extensions, frame.layers, frame.payload,
        frame.checksum,
    )  # fmt: skip


def judge(fleet: Fleet) -> dict[str, Any]:
    """The store against what was made."""
    made: dict[tuple[object, ...], tuple[object, ...]] = {}
    spools, integrity = {}, {}
    for camera in fleet.cameras:
        with Spool(camera.path) as opened:
            state, stream = opened.status(), opened.stream_id
        names = ("taken", "delivered", "dropped", "thinned", "damaged", "refused")
        spools[camera.path.stem] = {name: getattr(state, name) for name in names}
        integrity[camera.path.stem] = _integrity(camera.path)
        rows = [_row(face.frames(stream, DEVICE, number)[-1]) for number, face in enumerate(camera.faces)]
        made |= {row[:2]: row for row in rows}
    with contextlib.closing(sqlite3.connect(fleet.store)) as db:
        found = db.execute(f"SELECT {_COLUMNS} FROM faces").fetchall()
    names, payloads = Counter(row[:2] for row in found), Counter(row[-2] for row in found)
    owners = {row[-2]: name for name, row in made.items()}
    lines = [json.loads(line) for line in fleet.audit.read_text().splitlines()]
    answers = [line for line in lines if line["what"] == "POST /v2/frames"]
    return {
        "faces": len(made),
        "lost": len(set(made) - set(names)),
        "stored_twice": names.total() - len(names) + payloads.total() - len(payloads),
        "corrupt": sum(row[:2] in made and made[row[:2]] != row for row in found),
        "under_another_number": sum(owners.get(row[-2], row[:2]) != row[:2] for row in found),
        "not_ours": sum(row[:2] not in made for row in found),
        "integrity": {"store": _integrity(fleet.store), **integrity},
        "spools": spools,
        "requests_logged": len(answers),
        "requests_cut_off": sum(line["outcome"] == 499 for line in answers),
        "requests_refused": sum(line["outcome"] not in (200, 499) for line in answers),
        "frames_refused": sum(line.get("refused", 0) for line in answers),
        "frames_sent_again_and_recognised": sum(line.get("duplicate", 0) for line in answers),
    }


def _integrity(path: Path) -> str:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return str(db.execute("PRAGMA integrity_check").fetchone()[0])


def run(model: Path, work: Path, faces: int, kills: int, longest: float, minutes: float) -> dict[str, Any] | None:
    """Kill until `kills` are done, and judge; None if `minutes` were over before.

    Args:
        longest: a process is killed within so many seconds, at random.
    """
    from edge_stscq.bundle.model_folder import load_frame_codec

    work.mkdir(parents=True, exist_ok=True)
    path = work / "state.json"
    state = {"seconds": 0.0, "while_starting": 0, "pulled": 0, "victims": {}}
    if path.exists():
        state = json.loads(path.read_text())
    fleet, chance = Fleet(model, work, make_faces(load_frame_codec(model), faces)), random.Random()
    began, before = time.monotonic(), state["seconds"]
    try:
        while (done := sum(state["victims"].values())) < kills:
            if time.monotonic() - began > 60 * minutes:
                return None
            progress = (done + 1) / kills
            if progress > 1 / 3:
                state["pulled"] += fleet.cameras[0].pull()
            fleet.start(progress)
            patient = chance.random() < 0.5
            while patient and not fleet.serving():
                fleet.start(progress)
                time.sleep(0.01)
            time.sleep(chance.uniform(0, longest))
            starting = not patient and not fleet.serving()
            victim = fleet.kill_one(chance)
            state["victims"][victim] = state["victims"].get(victim, 0) + 1
            state["while_starting"] += starting
            state["seconds"] = round(before + time.monotonic() - began, 1)
            write_file(path, json.dumps(state).encode())
        fleet.finish()
    finally:
        fleet.stop()
    found = {"kills": kills, **state, "longest_wait": longest, "batch": BATCH, **judge(fleet)}
    return found | {"seconds": round(before + time.monotonic() - began, 1)}


def main(
    model: Annotated[Path, typer.Option(help="Model folder.")] = MODEL,
    work: Annotated[Path, typer.Option(help="Folder of spools, store and progress.")] = Path("out/kills"),
    faces: Annotated[int, typer.Option(min=1, help="Faces of all spools.")] = 20_000,
    kills: Annotated[int, typer.Option(min=1, help="Kills in all.")] = 1000,
    longest: Annotated[float, typer.Option(min=0, help="Most seconds between two kills, beside restarts.")] = 0.3,
    minutes: Annotated[float, typer.Option(min=0, help="Stop after these; the same command goes on.")] = 60,
) -> None:
    """Write benchmarks/results/kills.json."""
    found = run(model, work, faces, kills, longest, minutes)
    if found is None:
        raise EdgeError(f"not done after {minutes:g} minutes; run the same command again to go on")
    typer.echo(write("kills", found))


if __name__ == "__main__":
    typer.run(main)
