"""A short film with the real detector and gate: two people, a pillar, a crossing, and one face of each."""

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from demo_camera.loop import CaptureLoop
from edge_stscq.device.detect import Detector
from edge_stscq.device.quality import QualityGate
from edge_stscq.stream import CodedFace, FrameCodec, Tables
from tests.support.sources.film import Film, Person, Pose, Visit


class Likeness:
    """Encoder and matcher in one: tokens number the crops, and a crop is known by its coarse brightness."""

    def __init__(self) -> None:
        self.crops: list[NDArray[np.uint8]] = []

    def encode(self, image: NDArray[np.uint8], layers: int | None) -> CodedFace:
        self.crops.append(image)
        return CodedFace(0, np.array([len(self.crops) - 1], np.uint16), 1)

    def embed(self, faces: Iterable[CodedFace]) -> NDArray[np.float32]:
        small = [cv2.resize(self.crops[int(face.tokens[0])][32:112, 32:96].mean(2), (8, 10)) for face in faces]
        rows = np.array([picture - picture.mean() for picture in small], np.float32).reshape(len(small), -1)
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def test_two_people_who_cross_behind_a_pillar_give_a_face_each(portrait: dict[str, Path], detector: Detector) -> None:
    first, second = (Person.of(path, detector) for path in portrait.values())
    film = Film((
        Visit(first, ((0.0, Pose(-60, 210, 80, 20)), (4.0, Pose(700, 210, 84, -20)))),
        Visit(second, ((1.0, Pose(700, 230, 100, -20)), (3.0, Pose(320, 230, 100)), (5.0, Pose(-60, 230, 96, 20)))),
    ), seconds=8, rate=5, pillar=(180, 230))  # fmt: skip
    likeness = Likeness()
    tables = Tables.from_counts(np.ones((1, 1, 4096), np.int64), np.ones(1, np.int64), (1,))
    codec = FrameCodec(tables, b"model 01")
    loop = CaptureLoop(detector, likeness, codec, QualityGate(detector), likeness)
    captures = [capture for step in loop.run(film.pictures()) for capture in step.captures]
    assert loop.counters.tracks == len(captures) == 2
    assert loop.counters.found > 20
    of_film = [likeness.encode(capture.crop, None) for capture in captures]
    still = Pose(320, 230, 100)
    whose = []
    for person in (first, second):
        picture = next(Film((Visit(person, ((0, still), (1, still))),), seconds=0.2, rate=5).pictures())
        (face,) = detector.faces(picture.image)
        whose.append(likeness.encode(QualityGate(detector).judge(picture.image, face).crop, None))
    cosines = likeness.embed(of_film) @ likeness.embed(whose).T
    assert sorted(cosines.argmax(1).tolist()) == [0, 1], cosines
