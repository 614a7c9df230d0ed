"""Light on a face: measured on the middle of its crop, where skin is and neither hair nor background."""

import cv2
import numpy as np
from numpy.typing import NDArray

FACE = (slice(36, 112), slice(28, 100))
"""Rows and columns of a crop from the brows to the chin and from cheek to cheek."""
BLACK, WHITE = 4, 247
"""Grey levels up to the one and from the other on count as clipped."""


def gray(crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Luminance of a crop `uint8 [128, 128, 3]`, RGB, as `uint8 [128, 128]`."""
    return np.asarray(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), np.uint8)


def mean(luminance: NDArray[np.uint8]) -> float:
    """Mean grey level of the face, 0 to 255."""
    return float(luminance[FACE].mean())


def clipped(luminance: NDArray[np.uint8]) -> float:
    """Share of the face that is as dark or as bright as a picture can say, 0 to 1."""
    face = luminance[FACE]
    return float(((face <= BLACK) | (face >= WHITE)).mean())
