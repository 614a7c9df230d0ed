"""Ten minutes before a door: twelve visits by seven people, and the faces that are sent of them.

People walk up, turn their heads, are blurred as they move, pass behind a pillar, cross each other, stand and leave
(`tests/support/sources/film.py` composes the film from portraits). The capture loop of `edge-stscq capture` runs on it
as on a camera, with the detector, gate and encoder of a real bundle.

    python -m benchmarks.device.film --bundle bundles/onnx-int8 --portraits DIR

Each face that was sent is compared with every person's portrait, and so told whose it is.
"""

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.record import write
from demo_camera.loop import CaptureLoop
from demo_camera.results import Capture
from edge_stscq._images import read_image
from edge_stscq.bundle import Bundle, open_bundle
from edge_stscq.device import Matcher, load_encoder
from edge_stscq.device.crop import crop_face
from edge_stscq.device.detect import Detector
from edge_stscq.device.encoder import DeviceEncoder
from edge_stscq.device.quality import QualityGate
from tests.support.sources.film import Film, Person, Pose, Visit

PEOPLE, SECONDS, RATE = 7, 600.0, 10.0


def walk_up(person: Person, start: float, stay: float = 8.0) -> Visit:
    """From the door to the camera in six seconds, a while before it with the head turning, and away to the right."""
    there = start + 6
    return Visit(person, (
        (start, Pose(480, 190, 34, 10)), (there, Pose(330, 230, 120, 0)), (there + stay * 0.3, Pose(320, 225, 122, 30)),
        (there + stay * 0.5, Pose(320, 230, 124, -35)), (there + stay * 0.7, Pose(325, 228, 124, 5)),
        (there + stay, Pose(330, 230, 120, 0)), (there + stay + 2.5, Pose(720, 240, 110, 60)),
    ))  # fmt: skip


def pass_by(person: Person, start: float, size: float = 80, left: bool = True, y: float = 220) -> Visit:
    """From one side to the other in six seconds, looking at the camera half-way."""
    ends = (-60.0, 700.0) if left else (700.0, -60.0)
    side = 45.0 if left else -45.0
    return Visit(person, (
        (start, Pose(ends[0], y, size, side)), (start + 2, Pose((2 * ends[0] + ends[1]) / 3, y, size, side / 2)),
        (start + 3, Pose(320, y, size, 0)), (start + 4, Pose((ends[0] + 2 * ends[1]) / 3, y, size, -side / 3)),
        (start + 6, Pose(ends[1], y, size, -side / 2)),
    ))  # fmt: skip


def stand(person: Person, start: float, stay: float = 30.0, x: float = 330) -> Visit:
    """Half a minute in one place, now sharp and now out of focus, and twice behind something for a second."""
    moments = [(start, Pose(-60, 230, 100, 40)), (start + 2, Pose(x, 230, 104, 10, blur=1))]
    for number in range(int(stay // 5)):
        at = start + 2 + 5 * number
        moments += [(at + 2, Pose(x + 6, 228, 106, -8, blur=number % 3)), (at + 4, Pose(x - 4, 230, 104, 12))]
    end = start + stay + 2
    return Visit(person, (*moments, (end, Pose(x, 230, 104, 0)), (end + 3, Pose(-70, 235, 100, -60))))


def film(people: list[Person]) -> Film:
    """The film: twelve visits by seven people, two of them crossing twice."""
    a, b, c, d, e, f, g = people
    return Film((
        walk_up(a, 15), pass_by(b, 60), walk_up(c, 100, stay=14), stand(d, 150), pass_by(e, 215, size=95, left=False),
        pass_by(a, 260, size=84, y=225), pass_by(f, 260.4, size=92, left=False, y=215), walk_up(g, 310),
        stand(b, 350, x=300), pass_by(c, 430, size=80), pass_by(d, 430.3, size=90, left=False, y=228), walk_up(e, 500),
    ), SECONDS, RATE, pillar=(200, 224))  # fmt: skip


def run(bundle: Bundle, portraits: Path, every: int = 1) -> dict[str, Any]:
    """Faces that the loop sends of the film, and whose these are."""
    cv2.setNumThreads(1)
    detector, encoder, matcher = Detector(), load_encoder(bundle, 1), Matcher.of(bundle)
    paths = sorted(path for path in portraits.iterdir() if path.suffix == ".jpg")
    paths = [path for path in paths if portrait_is_frontal(path, detector)][::2][:PEOPLE]
    made = film([Person.of(path, detector) for path in paths])
    loop = CaptureLoop(detector, encoder, bundle.frames, QualityGate(detector), matcher, every=every)
    captures: list[Capture] = []
    for step in loop.run(made.pictures()):
        captures.extend(step.captures)
    gallery = matcher.embed([encode(path, detector, encoder) for path in paths])
    sent = []
    for capture in captures:
        (frame,) = capture.coded.frames(bytes(16), "camera", 0)
        cosines = gallery @ matcher.embed([bundle.frames.face(frame)])[0]
        best = int(np.argmax(cosines))
        sent.append({
            "track": capture.track, "picture": capture.picture, "person": paths[best].stem, "quality": capture.score,
            "cosine": round(float(cosines[best]), 3), "next": round(float(np.sort(cosines)[-2]), 3),
        })  # fmt: skip
    numbers = loop.counters.by_name()
    return {
        "seconds": SECONDS, "rate": RATE, "visits": len(made.visits), "people": PEOPLE, "every": every,
        "faces_sent": len(sent), "wire_bytes": numbers["wire_bytes"], "counters": numbers,
        "people_recognized": len({one["person"] for one in sent}),
        "sent_by_person": dict(Counter(str(one["person"]) for one in sent)), "sent": sent,
    }  # fmt: skip


def portrait_is_frontal(path: Path, detector: Detector) -> bool:
    """The portrait's largest face passes the gate."""
    image = read_image(path)
    face = detector.largest(image)
    return face is not None and QualityGate(detector).judge(image, face).refusal is None


def encode(path: Path, detector: Detector, encoder: DeviceEncoder) -> Any:
    """The code of a portrait's largest face."""
    image = read_image(path)
    face = detector.largest(image)
    assert face is not None
    return encoder.encode(crop_face(image, face.points))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--portraits", type=Path, required=True, help="folder of portraits with background")
    options = parser.parse_args()
    bundle = open_bundle(options.bundle)
    results = {"bundle": bundle.manifest.name, "runs": [run(bundle, options.portraits, every) for every in (1, 3)]}
    path = write("film", results)
    for one in results["runs"]:
        print(f"every {one['every']}: {one['faces_sent']} faces of {one['visits']} visits, {one['wire_bytes']} bytes")
    print(path)


if __name__ == "__main__":
    main()
