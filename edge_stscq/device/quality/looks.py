"""Second looks of the detector at a face, at its aligned crop: is one there, in its place and the right way up?

Where the detector is sure that a face is near, it invents points: on a face upside down it finds eyes at the mouth, on
half a face the other half. A crop by such points does not show a face in its place. The detector, asked again, is less
sure of it, puts the points elsewhere, or is surer of the same crop in another turn.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_stscq.device.crop import TEMPLATE, umeyama
from edge_stscq.device.detect import Detector, Face

LEAST_SCORE = 0.02
"""Faces that the detector is even less sure of count as none."""
TURNS = (cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_COUNTERCLOCKWISE)


class SecondLook(NamedTuple):
    """Answer of the detector, asked again of a crop."""

    score: float
    """0 to 1; 0 if it sees no face."""
    shift: float
    """Root mean square distance of its points from those that the crop was cut by, in pixels of the crop."""


class SecondLooks:
    """A detector for crops. Like every detector it is not for several threads at once."""

    def __init__(self) -> None:
        self._detector = Detector(LEAST_SCORE)

    def look(self, crop: NDArray[np.uint8], points: NDArray[np.float64]) -> SecondLook:
        """The second look at a crop `uint8 [128, 128, 3]`, RGB, that was cut by `points [5, 2]` of its picture."""
        face = self._best(crop)
        if face is None:
            return SecondLook(0.0, float(len(crop)))
        matrix = umeyama(points, TEMPLATE)
        expected = points @ matrix[:, :2].T + matrix[:, 2]
        return SecondLook(face.score, float(np.sqrt(((face.points - expected) ** 2).sum(1).mean())))

    def best_turned(self, crop: NDArray[np.uint8]) -> float:
        """Highest score of a crop when turned by 90, 180 and 270 degrees, 0 to 1."""
        turned = (self._best(np.asarray(cv2.rotate(crop, turn), np.uint8)) for turn in TURNS)
        return max((face.score for face in turned if face is not None), default=0.0)

    def _best(self, crop: NDArray[np.uint8]) -> Face | None:
        """The surest face whose middle lies in the middle of a crop."""
        middle = len(crop) / 2
        near = (face for face in self._detector.faces(crop) if max(abs(at - middle) for at in face.middle) < middle / 2)
        return max(near, key=lambda face: face.score, default=None)
