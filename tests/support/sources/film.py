"""Films of people who pass a camera, composed from portraits while they are watched.

A head is an ellipsoid with the portrait on it, so that it can turn: the picture at (u, v) of the turned head is the
portrait's at x = u cos(yaw) - sqrt(1 - u^2 - v^2) sin(yaw), y = v. Heads walk over a background, are blurred by their
motion, hidden behind a pillar or each other, and leave. Nothing is random but the noise of the sensor, which is drawn
from a seed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from demo_camera.sources import Picture
from edge_stscq._images import read_image
from edge_stscq.device.detect import Detector
from edge_stscq.stream import Clock

WIDTH, HEIGHT = 640, 480
START = 1_700_000_000_000
"""Time of capture of the first picture, milliseconds since 1970 UTC."""
_HEAD = 1.5, 1.75
"""Width and height of a head in boxes of its face."""


@dataclass(frozen=True, eq=False)
class Person:
    """One head, cut from a portrait: `uint8 [H, W, 3]`, RGB."""

    name: str
    head: NDArray[np.uint8]

    @classmethod
    def of(cls, path: Path, detector: Detector) -> "Person":
        """The largest head of a portrait, which must show a face."""
        return cls.cut(path.stem, read_image(path), detector)

    @classmethod
    def cut(cls, name: str, image: NDArray[np.uint8], detector: Detector) -> "Person":
        """The largest head of a picture `uint8 [H, W, 3]`, RGB; what is beyond its edge is as the edge."""
        face = detector.largest(image)
        assert face is not None, f"{name} has no face"
        x, y, width, height = face.box
        half = width * _HEAD[0] / 2, height * _HEAD[1] / 2
        left, top = round(x + width / 2 - half[0]), round(y + height * 0.45 - half[1])
        size = round(2 * half[0]), round(2 * half[1])
        padded = cv2.copyMakeBorder(image, size[1], size[1], size[0], size[0], cv2.BORDER_REPLICATE)
        head = padded[top + size[1] : top + 2 * size[1], left + size[0] : left + 2 * size[0]]
        return cls(name, np.ascontiguousarray(head, np.uint8))

    def draw(self, frame: NDArray[np.uint8], pose: "Pose") -> None:
        """Draw the head into a frame."""
        width = max(8, round(pose.size * _HEAD[0]))
        height = max(8, round(width * self.head.shape[0] / self.head.shape[1]))
        texture = cv2.resize(self.head, (2 * width, 2 * height), interpolation=cv2.INTER_AREA)  # or it would be soft
        u, v = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
        inside = 1 - u**2 - v**2
        yaw = np.radians(pose.yaw)
        x = np.clip(u * np.cos(yaw) - np.sqrt(np.maximum(inside, 0)) * np.sin(yaw), -0.97, 0.97)
        source = ((x + 1) * (width - 0.5)).astype(np.float32), ((v + 1) * (height - 0.5)).astype(np.float32)
        turned = cv2.remap(texture, *source, cv2.INTER_LINEAR).astype(np.float32) * pose.light
        alpha = np.clip(inside * 8, 0, 1).astype(np.float32)[..., None]
        if length := round(pose.blur):
            kernel = np.full((1, length + 1), 1 / (length + 1))
            turned = np.asarray(cv2.filter2D(turned, -1, kernel), np.float32)
            alpha = np.asarray(cv2.filter2D(alpha, -1, kernel), np.float32)[..., None]
        _paste(frame, turned, alpha, round(pose.x - width / 2), round(pose.y - height / 2))


@dataclass(frozen=True)
class Pose:
    """Place and state of a head in one picture: middle and width of the face in pixels, degrees, pixels of motion."""

    x: float
    y: float = 220.0
    size: float = 90.0
    yaw: float = 0.0
    blur: float = 0.0
    light: float = 1.0


@dataclass(frozen=True)
class Visit:
    """One person before the camera: poses at moments, in seconds of the film; between two of them all goes evenly."""

    person: Person
    moments: Sequence[tuple[float, Pose]]

    def pose(self, seconds: float) -> Pose | None:
        """The pose at a time, None before and after the visit. Who moves is blurred by 1/100 s of it."""
        for (start, first), (end, last) in zip(self.moments, self.moments[1:], strict=False):
            if start <= seconds < end:
                share = (seconds - start) / (end - start)
                names = ("x", "y", "size", "yaw", "blur", "light")
                mixed = {one: getattr(first, one) * (1 - share) + getattr(last, one) * share for one in names}
                mixed["blur"] += abs(last.x - first.x) / (end - start) / 100
                return Pose(**mixed)
        return None


@dataclass(frozen=True)
class Film:
    """A film: who comes, how long it lasts, and a pillar, `(left, right)` in pixels, that hides who is behind it."""

    visits: Sequence[Visit]
    seconds: float
    rate: float = 10.0
    pillar: tuple[int, int] | None = None
    noise: float = 3.0
    _background: NDArray[np.uint8] = field(default_factory=lambda: background(), repr=False)

    def pictures(self) -> Iterator[Picture]:
        """The pictures in order, as a source gives them."""
        random = np.random.default_rng(0)
        grain = random.normal(0, self.noise, (HEIGHT + 64, WIDTH + 64, 1)).astype(np.float32)
        for number in range(round(self.seconds * self.rate)):
            seconds = number / self.rate
            frame = self._background.copy()
            poses = [(pose, visit.person) for visit in self.visits if (pose := visit.pose(seconds)) is not None]
            for pose, person in sorted(poses, key=lambda pair: pair[0].size):  # the nearer one in front
                person.draw(frame, pose)
            if self.pillar is not None:
                left, right = self.pillar
                frame[:, left:right] = (96, 92, 88)
            top, side = random.integers(0, 64, 2)
            noisy = frame + grain[top : top + HEIGHT, side : side + WIDTH]
            image = np.clip(noisy, 0, 255).astype(np.uint8)
            yield Picture(f"film picture {number}", image, START + round(seconds * 1000), Clock.SYNCHRONIZED, seconds)


def background() -> NDArray[np.uint8]:
    """A wall with a door and a window, `uint8 [480, 640, 3]`."""
    shade = np.linspace(150, 200, HEIGHT)[:, None, None] * np.ones((1, WIDTH, 3)) * (1.0, 0.97, 0.92)
    wall = shade.astype(np.uint8)
    cv2.rectangle(wall, (420, 60), (590, HEIGHT), (110, 84, 60), -1)
    cv2.rectangle(wall, (60, 70), (260, 240), (190, 214, 230), -1)
    cv2.rectangle(wall, (60, 70), (260, 240), (240, 240, 236), 6)
    return wall


def _paste(
    frame: NDArray[np.uint8], image: NDArray[np.float32], alpha: NDArray[np.float32], left: int, top: int
) -> None:
    height, width = image.shape[:2]
    y, x = slice(max(top, 0), min(top + height, HEIGHT)), slice(max(left, 0), min(left + width, WIDTH))
    if y.start >= y.stop or x.start >= x.stop:
        return
    part = slice(y.start - top, y.stop - top), slice(x.start - left, x.stop - left)
    mixed = frame[y, x] * (1 - alpha[part]) + image[part] * alpha[part]
    frame[y, x] = np.clip(mixed, 0, 255).astype(np.uint8)
