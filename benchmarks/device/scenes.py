"""Full frames made of aligned crops: a face of a known person, somewhere in a picture of 640 x 480, under a condition.

The crop (144 px, 35 px between the eyes) is enlarged, turned and moved; around it are the colors of its four corners,
one running into the other, and the seam is feathered. Then come blur, light and noise.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_stscq.device.crop import SPEC, TEMPLATE

WIDTH, HEIGHT = 640, 480
EYES = float(np.linalg.norm(TEMPLATE[1] - TEMPLATE[0]))
"""Pixels between the eyes in a crop."""
FEATHER = 6
"""Pixels of the crop over which it fades into its surroundings."""

Picture = NDArray[np.uint8]
Change = Callable[[Picture, np.random.Generator], Picture]


@dataclass(frozen=True)
class Scene:
    """One condition: where the face is, and what becomes of the frame."""

    name: str
    turn: float = 0
    """Degrees, counterclockwise."""
    eyes: float = 70
    """Pixels between the eyes."""
    shift: tuple[float, float] = (0, 0)
    """Of the face's middle from the frame's, in pixels."""
    cut: tuple[float, float, float, float] = (0, 0, 1, 1)
    """Part of the frame that remains: left, top, right, bottom, as shares of width and height."""
    changes: tuple[Change, ...] = ()
    mild: bool = False
    """At least 90 % must be captured."""

    def frame(self, crop: Picture, name: str) -> Picture:
        """The frame uint8 `[H, W, 3]` of a training crop uint8 `[144, 144, 3]`; `name` seeds the noise."""
        scale, side = self.eyes / EYES, len(crop)
        middle = TEMPLATE.mean(0) + (side - SPEC.size) / 2
        matrix = cv2.getRotationMatrix2D((float(middle[0]), float(middle[1])), self.turn, scale)
        matrix[:, 2] += np.array([WIDTH, HEIGHT]) / 2 + self.shift - middle
        alpha = np.zeros((side, side), np.float32)
        alpha[FEATHER:-FEATHER, FEATHER:-FEATHER] = 1
        alpha = np.asarray(cv2.blur(alpha, (2 * FEATHER + 1, 2 * FEATHER + 1)))
        over = cv2.warpAffine(crop, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC)
        share = cv2.warpAffine(alpha, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR)[..., None]
        corners = cv2.blur(crop, (9, 9))[4 :: side - 9, 4 :: side - 9]
        around = cv2.resize(corners, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
        frame = np.asarray(np.rint(over * share + around * (1 - share)), np.uint8)
        left, top, right, bottom = (round(part * of) for part, of in zip(self.cut, (WIDTH, HEIGHT) * 2, strict=True))
        frame = frame[top:bottom, left:right]
        random = np.random.default_rng(zlib.crc32(f"{self.name}/{name}".encode()))
        for change in self.changes:
            frame = change(frame, random)
        return np.ascontiguousarray(frame)


def gauss(sigma: float) -> Change:
    """Out of focus by a Gauss of `sigma` pixels of the frame."""
    return lambda frame, _: np.asarray(cv2.GaussianBlur(frame, (0, 0), sigma), np.uint8)


def noise(sigma: float) -> Change:
    """Noise of the sensor, `sigma` grey levels."""
    return lambda frame, random: _rounded(frame + random.normal(0, sigma, frame.shape))


def light(times: float) -> Change:
    """Less light or more: grey levels times `times`, clipped."""
    return lambda frame, _: _rounded(frame * float(times))


def contrast(times: float) -> Change:
    """Grey levels spread about the middle by `times`, clipped at both ends."""
    return lambda frame, _: _rounded((frame - 128.0) * times + 128)


def motion(length: int, degrees: float) -> Change:
    """Motion over `length` pixels in one direction; 0 degrees is sideways."""
    kernel = np.zeros((length, length), np.float32)
    kernel[length // 2] = 1
    middle = (length - 1) / 2
    turned = cv2.warpAffine(kernel, cv2.getRotationMatrix2D((middle, middle), degrees, 1), (length, length))
    return lambda frame, _: np.asarray(cv2.filter2D(frame, -1, turned / turned.sum()), np.uint8)


def cover(left: float, top: float, right: float, bottom: float, grey: int = 60, eyes: float = 70) -> Change:
    """A thing before the face: a rectangle in pixels of the canonical crop, of one grey level and a little noise."""

    def change(frame: Picture, random: np.random.Generator) -> Picture:
        frame, scale = frame.copy(), eyes / EYES
        corners = (np.array([[left, top], [right, bottom]]) - TEMPLATE.mean(0)) * scale + np.array([WIDTH, HEIGHT]) / 2
        (x0, y0), (x1, y1) = np.rint(np.clip(corners, 0, (WIDTH, HEIGHT))).astype(int)
        frame[y0:y1, x0:x1] = _rounded(random.normal(grey, 3, (y1 - y0, x1 - x0, 1)))
        return frame

    return change


def _rounded(values: NDArray[np.floating]) -> Picture:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)
