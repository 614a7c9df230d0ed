"""How sharp a crop is, and whether it was blurred in one direction.

Little light lowers every difference of brightness, and noise raises the differences between neighbors; neither says
anything about focus. So the picture is first smoothed, which noise does not survive, and what remains is divided by the
variance of the brightness. A face that moved is sharp across its motion and blurred along it: the second derivatives
are compared in all directions at once by the eigenvalues of their covariance.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_stscq.device.quality.light import FACE

SMOOTHING = 1.0
"""Sigma of the Gauss before the derivatives, in pixels of the crop."""
FLAT = 1.0
"""Variance added to that of the brightness, in squared grey levels: the least that eight bits can tell from none."""


class Focus(NamedTuple):
    """Sharpness of a crop in per mille: energy of its detail, a thousandth of the brightness's variance."""

    sharpness: float
    """In the sharpest direction."""
    weakest: float
    """In the direction at right angles to it."""

    @property
    def evenness(self) -> float:
        """Of the weakest to the sharpest, 0 to 1; motion makes it small."""
        return self.weakest / self.sharpness if self.sharpness > 0 else 1.0


def focus(luminance: NDArray[np.uint8]) -> Focus:
    """Sharpness of a crop's luminance, `uint8 [128, 128]`.

    Example:
        >>> focus(gray(crop)).sharpness > focus(cv2.GaussianBlur(gray(crop), (0, 0), 3)).sharpness
        True
    """
    smooth = cv2.GaussianBlur(luminance.astype(np.float32), (0, 0), SMOOTHING)
    detail = (smooth - cv2.GaussianBlur(smooth, (0, 0), SMOOTHING))
    rows, columns = np.gradient(np.asarray(detail))
    across, down = columns[FACE].ravel(), rows[FACE].ravel()
    low, high = np.linalg.eigvalsh(np.cov(across, down, bias=True))
    per_mille = 1000 / (float(smooth[FACE].var()) + FLAT)
    return Focus(sharpness=float(high) * per_mille, weakest=max(float(low), 0.0) * per_mille)
