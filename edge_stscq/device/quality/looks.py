"""Second looks of the detector at one face: once at its crop, and at its surroundings in four turns.

The detector invents points where it is certain that a face is near: on one upside down, it finds eyes at the mouth. But
it is a little more certain of the same face in the right turn, and of a crop that shows one face in its right place.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_stscq.device.crop import TEMPLATE
from edge_stscq.device.detect import Detector, Face, cut_window

SIDE = 192
"""Pixels of the window that is turned; a face fills half of it."""
TURNS = (cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_COUNTERCLOCKWISE)
NEAR = 0.25
"""Farthest that a face's middle may lie from that of the window, as a share of its side."""


class Looks:
    """A detector that takes its second looks; it hears even what it is hardly sure of, to have scores to compare."""

    def __init__(self) -> None:
        self._detector = Detector(minimum_score=0.02)

    def crop_score(self, crop: NDArray[np.uint8]) -> float:
        """Score of the face in the middle of a crop `uint8 [128, 128, 3]`, 0 to 1; 0 where there is none."""
        return self._score(crop)

    def uprightness(self, image: NDArray[np.uint8], face: Face) -> float:
        """Score of `face` as it is in `image` minus the best one when turned by 90, 180 and 270 degrees, -1 to 1."""
        picture = cut_window(image, face, SIDE).picture
        turned = (np.asarray(cv2.rotate(picture, turn), np.uint8) for turn in TURNS)
        return self._score(picture) - max(map(self._score, turned))

    def _score(self, picture: NDArray[np.uint8]) -> float:
        middle = len(picture) / 2
        near = [
            face.score for face in self._detector.faces(picture)
            if max(abs(at - middle) for at in face.middle) < NEAR * len(picture)
        ]  # fmt: skip
        return max(near, default=0.0)
