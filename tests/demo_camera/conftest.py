"""A loop without a model: faces are where the test says, and an encoder gives the brightness of their crops."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from demo_camera.loop import CaptureLoop
from demo_camera.sources import Picture
from edge_stscq.device.detect import Face
from edge_stscq.device.quality import Judgement, Verdict
from edge_stscq.stream import Clock, CodedFace, FrameCodec, Tables

LAYER_ENDS = (4, 8, 12)
POINTS = np.array([(0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8)])


class FakeEncoder:
    """Twelve tokens that say how bright the crop is in twelve horizontal strips."""

    def __init__(self) -> None:
        self.calls = 0

    def encode(self, image: NDArray[np.uint8], layers: int | None) -> CodedFace:
        assert image.shape == (128, 128, 3)
        assert image.dtype == np.uint8
        self.calls += 1
        strips = image[:120].reshape(12, -1).mean(1)
        return CodedFace(1, np.asarray(strips // 16, np.uint16), 3).truncate(layers or 3, LAYER_ENDS)


@dataclass(frozen=True)
class Seen:
    """One face as a test puts it: its middle, whose it is, its quality, and the reason against it."""

    x: float
    y: float = 200.0
    who: int = 0
    score: int = 50
    size: float = 80.0
    refusal: str | None = None


@dataclass
class Stage:
    """Detector and gate that see what a test puts on stage, and a camera of ten pictures a second before it."""

    faces_now: list[Seen] = field(default_factory=list)
    pictures: int = 0
    searched: int = 0
    known_upright: list[bool] = field(default_factory=list)
    step: float = 0.1
    at: float = 0.0

    def picture(self, *faces: Seen, seconds: float | None = None) -> Picture:
        self.faces_now = list(faces)
        self.at = round(self.at + self.step, 6) if seconds is None else seconds
        self.pictures += 1
        image = np.zeros((480, 640, 3), np.uint8)
        return Picture(f"picture {self.pictures}", image, round(self.at * 1000), Clock.SYNCHRONIZED, self.at)

    def photograph(self, *faces: Seen) -> Picture:
        return Picture("photo.jpg", self.picture(*faces).image)

    def faces(self, image: NDArray[np.uint8]) -> list[Face]:
        self.searched += 1
        return [self._face(seen) for seen in self.faces_now]

    def glance(self, image: NDArray[np.uint8]) -> bool:
        return bool(self.faces_now)

    def _face(self, seen: Seen) -> Face:
        box = (seen.x - seen.size / 2, seen.y - seen.size / 2, seen.size, seen.size)
        return Face(points=POINTS * seen.size + box[:2], box=box, score=0.9)

    def judge(self, image: NDArray[np.uint8], face: Face, *, known_upright: bool) -> Judgement:
        places = [(abs(seen.x - face.box[0] - seen.size / 2) + abs(seen.y - face.box[1] - seen.size / 2), seen)
                  for seen in self.faces_now]  # fmt: skip
        seen = min(places, key=lambda pair: pair[0])[1]
        self.known_upright.append(known_upright)
        refusal = None if seen.refusal is None else Verdict("x", 0, 1, False, seen.refusal, "as the test says")
        return Judgement(face, np.full((128, 128, 3), 16 * seen.who + 8, np.uint8), (), refusal, seen.score)


class FakeMatcher:
    """Persons 0 to 7 are orthogonal to each other; 8 and more are the same people half hidden, with a cosine of 0.3."""

    def embed(self, faces: Iterable[CodedFace]) -> NDArray[np.float32]:
        people = np.eye(128, dtype=np.float32)
        people[8:15] = 0.3 * people[:7] + np.sqrt(np.float32(1 - 0.3**2)) * people[15]
        return np.asarray(people[[int(face.tokens[0]) for face in faces]], np.float32)


@pytest.fixture
def encoder() -> FakeEncoder:
    return FakeEncoder()


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
def make_loop(encoder: FakeEncoder, stage: Stage) -> Callable[..., CaptureLoop]:
    """`make_loop(every=5, ...)`: a loop before the stage that tells people apart, or with `matcher=None` does not."""
    tables = Tables.from_counts(np.ones((2, 12, 16), np.int64), np.ones(2, np.int64), LAYER_ENDS)

    def make(**options: Any) -> CaptureLoop:
        chosen: dict[str, Any] = {"matcher": FakeMatcher()} | options
        return CaptureLoop(stage, encoder, FrameCodec(tables, b"model 01"), stage, **chosen)

    return make


@pytest.fixture
def loop(make_loop: Callable[..., CaptureLoop]) -> CaptureLoop:
    return make_loop()
