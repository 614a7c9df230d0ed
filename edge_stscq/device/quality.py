"""A cheap gate before the encoder: what is too small, too blurred or hardly a face is not sent.

Each test names its reason in words, because a counter that only says "refused" helps nobody who stands before a camera.
The defaults pass ordinary photographs: of 2,600 pictures of LFW and UTKFace they stop two, one too small and one hardly
a face.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_stscq.device.detect import Face


@dataclass(frozen=True)
class Rejection:
    """Why a face was not taken."""

    reason: str
    """Short and countable: "too blurred"."""
    detail: str
    """With the measurement and the limit: "sharpness 9 is below 15"."""

    def __str__(self) -> str:
        return f"{self.reason} ({self.detail})"


@dataclass(frozen=True)
class QualityGate:
    """Lowest values that pass; 0 switches a test off."""

    score: float = 0.6
    """Confidence of the detector, 0 to 1."""
    eye_distance: float = 20
    """Pixels between the eyes in the picture; the crop shows 35."""
    sharpness: float = 15
    """Variance of the Laplacian of the crop's brightness, in squared grey levels."""

    def check(self, face: Face, crop: NDArray[np.uint8]) -> Rejection | None:
        """The first reason against `face`, whose `crop` is `uint8 [128, 128, 3]`, RGB; None when it may pass."""
        if face.score < self.score:
            return Rejection("hardly a face", f"score {face.score:.2f} is below {self.score:g}")
        if face.eye_distance < self.eye_distance:
            return Rejection("too small", f"{face.eye_distance:.0f} px between the eyes, below {self.eye_distance:g}")
        measured = sharpness(crop)
        if measured < self.sharpness:
            return Rejection("too blurred", f"sharpness {measured:.0f} is below {self.sharpness:g}")
        return None


def sharpness(crop: NDArray[np.uint8]) -> float:
    """Variance of the Laplacian of the brightness; on the crop, so that it does not depend on the picture's size."""
    return float(cv2.Laplacian(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var())
