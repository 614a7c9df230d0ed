"""One picture: find its largest face, and cut the canonical crop that encoders take."""

import threading

import numpy as np
from numpy.typing import NDArray

from edge_stscq.device.crop import crop_face
from edge_stscq.device.detect import Detector, Face
from edge_stscq.errors import EdgeError

_local = threading.local()


def detect(picture: NDArray[np.uint8]) -> Face | None:
    """The largest face of a picture; None if there is none.

    Args:
        picture: uint8 `[H, W, 3]` in RGB.

    Raises:
        EdgeError: that is not what it is.

    Example:
        >>> face = detect(read_image("portrait.png"))
        >>> crop = align(picture, face.points)
    """
    _check(picture)
    if not hasattr(_local, "detector"):  # one a thread, since a detector keeps the size of its picture
        _local.detector = Detector()
    found: Face | None = _local.detector.largest(picture)
    return found


def align(picture: NDArray[np.uint8], landmarks: NDArray[np.floating] | None = None) -> NDArray[np.uint8]:
    """The canonical crop uint8 `[128, 128, 3]` of a face.

    Args:
        picture: uint8 `[H, W, 3]` in RGB.
        landmarks: float `[5, 2]`, x and y in pixels: eye, eye, nose, mouth corner, mouth corner, each pair left to
            right as seen; those of the largest face if None.

    Raises:
        EdgeError: there is no face, or picture or landmarks are not of these shapes.

    Example:
        >>> crop = align(read_image("portrait.png"))
    """
    _check(picture)
    if landmarks is None:
        face = detect(picture)
        if face is None:
            raise EdgeError("no face found; give a sharp picture with a face at least 60 pixels wide")
        landmarks = face.points
    points = np.asarray(landmarks, np.float64)
    if points.shape != (5, 2) or not np.isfinite(points).all():
        raise EdgeError(f"landmarks are five finite points [5, 2], not of shape {points.shape}")
    try:
        return crop_face(picture, points)
    except ValueError as error:
        raise EdgeError(f"no crop can be cut: {error}; give the landmarks of one face") from None


def _check(picture: NDArray[np.uint8]) -> None:
    wanted = isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.ndim == 3
    if not wanted or picture.shape[2] != 3 or not picture.size:
        what = f"{picture.dtype} {picture.shape}" if isinstance(picture, np.ndarray) else type(picture).__name__
        raise EdgeError(f"a picture is uint8 (H, W, 3) in RGB, not {what}; read files with `read_image`")
