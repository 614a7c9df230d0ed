"""One number for how good a shot is, to choose the best of a track."""

import math

from edge_stscq.device.crop import TEMPLATE
from edge_stscq.device.quality.place import eye_distance

FULL_SIZE = 2 * eye_distance(TEMPLATE)
"""Pixels between the eyes from which a larger face is no better: twice what the crop shows."""
FULL_SHARPNESS = 100.0
"""Percent from which a sharper one is no better."""
FULL_YAW = 75.0
"""Degrees at which nothing remains."""
DARK, BRIGHT = 60.0, 190.0
"""Grey levels between which the light is right."""


def best_shot_score(*, eye_distance: float, sharpness: float, yaw: float, luminance: float, clipped: float) -> int:
    """Area x sharpness x frontality x exposure, as a whole number from 0 to 100.

    Each factor is 0 to 1 and monotone; the fourth root of the product is taken, so that the number is their geometric
    mean and half of one factor costs 16 of 100.

    Args:
        eye_distance: in pixels of the picture; its square over that of a full-sized face is the area, at most 1.
        sharpness: in the weakest direction, so that motion counts; its share of full sharpness, at most 1.
        yaw: in degrees to either side; 1 when frontal, falling evenly to 0 at 75 degrees.
        luminance: mean grey level of the face; 1 in the middle range, falling evenly to 0 at black and at white.
        clipped: share of the face that is black or white; exposure is multiplied by what is left.
    """
    area = min(1.0, eye_distance / FULL_SIZE) ** 2
    sharp = min(1.0, sharpness / FULL_SHARPNESS)
    frontal = max(0.0, 1 - abs(yaw) / FULL_YAW)
    exposure = max(0.0, min(1.0, luminance / DARK, (255 - luminance) / (255 - BRIGHT))) * (1 - clipped)
    return round(100 * math.pow(area * sharp * frontal * exposure, 0.25))
