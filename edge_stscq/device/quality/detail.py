"""Fine detail of a crop: how sharp it is, whether it moved, and whether a part of the face shows none.

Little light lowers every difference of brightness, and noise raises the differences between neighbors; neither says
anything about focus. So gradients are compared with gradients: their energy after a smoothing of one pixel with that
after two. An ideal edge has twice as much, a blurred one little more than as much, and light, contrast and what the
face shows cancel; noise does not survive the smoothing. A face that moved is sharp across its motion and blurred
along it, so the two energies are compared in all directions at once, by the generalized eigenvalues of their tensors.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_stscq.device.crop import TEMPLATE
from edge_stscq.device.quality.light import FACE

FINE, COARSE = 1.0, 2.0
"""Sigma of the two smoothings, in pixels of the crop."""
FLAT = 0.002
"""Energy added to the coarse gradients, in squared grey levels a pixel: what a face without any detail is judged by."""
EVEN = 0.58
"""Share of the sharpness in the sharpest direction below which that in the weakest says motion."""
_EYE, _NOSE, _MOUTH = (10, 6), (12, 7), (3, 7)
"""Reach of a part of the face around its point: pixels to the sides, above and below."""


class Sharpness(NamedTuple):
    """Sharpness in two directions at right angles, in percent of an ideal edge's; thin lines have more than 100."""

    weakest: float
    strongest: float

    @property
    def moved(self) -> bool:
        """True if what there is of blur is along one direction."""
        return self.weakest < EVEN * self.strongest


def sharpness(luminance: NDArray[np.uint8]) -> Sharpness:
    """Sharpness of a crop's luminance, `uint8 [128, 128]`.

    Example:
        >>> sharpness(gray(crop)).weakest > sharpness(cv2.GaussianBlur(gray(crop), (0, 0), 3)).weakest
        True
    """
    fine, coarse = (_tensor(*_gradients(luminance, sigma)) for sigma in (FINE, COARSE))
    whiten = np.linalg.inv(np.linalg.cholesky(coarse + FLAT * np.eye(2)))
    weakest, strongest = 100 * np.maximum(np.linalg.eigvalsh(whiten @ fine @ whiten.T) - 1, 0)
    return Sharpness(float(weakest), float(strongest))


def least_visible(luminance: NDArray[np.uint8]) -> float:
    """Detail of the part of the face that shows least, of eyes, nose and mouth, beside their mean: 0 to 1.

    A mask, a hand or dark glasses are smooth where a face is not. What covers a face and has a pattern goes unnoticed.
    """
    across, down = _gradients(luminance, 1.5)
    detail = np.hypot(across, down)
    shown = np.array([float(np.median(detail[part])) for part in _PARTS])
    return float(shown.min() / max(shown.mean(), 1e-9))


def _gradients(luminance: NDArray[np.uint8], sigma: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Slope across and down, in grey levels a pixel."""
    smooth = cv2.GaussianBlur(luminance.astype(np.float32), (0, 0), sigma)
    across, down = (cv2.Scharr(smooth, cv2.CV_32F, dx, 1 - dx, scale=1 / 32) for dx in (1, 0))
    return np.asarray(across, np.float32), np.asarray(down, np.float32)


def _tensor(across: NDArray[np.float32], down: NDArray[np.float32]) -> NDArray[np.float64]:
    slopes = np.stack([across[FACE].ravel(), down[FACE].ravel()]).astype(np.float64)
    tensor: NDArray[np.float64] = slopes @ slopes.T / slopes.shape[1]
    return tensor


def _part(points: NDArray[np.float64], reach: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of a crop around some points of the template."""
    left, top = np.rint(points.min(0) - reach).astype(int).tolist()
    right, bottom = np.rint(points.max(0) + reach).astype(int).tolist()
    return slice(top, bottom + 1), slice(left, right + 1)


_PARTS = (
    _part(TEMPLATE[:1], _EYE), _part(TEMPLATE[1:2], _EYE), _part(TEMPLATE[2:3], _NOSE), _part(TEMPLATE[3:], _MOUTH),
)  # fmt: skip
