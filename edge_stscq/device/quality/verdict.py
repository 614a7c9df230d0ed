"""What is measured of a face, and how one measurement is judged.

Names that ISO/IEC 29794-5 has for a component are used where the same property is meant; the values are this project's
own, and no conformance is claimed.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Verdict:
    """One measurement beside its limit.

    Example:
        >>> str(judge("sharpness", 9, 15))
        'too blurred (sharpness 9 is below 15)'
    """

    name: str
    """Of the measure, for machines; the limit of this name in `Limits` is the one that was applied."""
    value: float
    limit: float | None
    """None where the measure is switched off; it passes then."""
    passed: bool
    reason: str
    """What a failure is called, short and countable: "too blurred"."""
    detail: str
    """The measurement and the limit in words: "sharpness 9 is below 15"."""

    def __str__(self) -> str:
        return self.detail if self.passed else f"{self.reason} ({self.detail})"


@dataclass(frozen=True)
class Measure:
    """How one measurement is read."""

    reason: str
    words: str
    """With a place for the number."""
    bound: Literal["least", "most"]


MEASURES: dict[str, Measure] = {
    "detector_score": Measure("hardly a face", "score {:.2f}", "least"),
    "inter_eye_distance": Measure("too small", "eye distance {:.0f} px", "least"),
    "points_outside": Measure("cut off by the border", "a point is {:.2f} eye distances outside", "most"),
    "crop_outside": Measure("cut off by the border", "share outside the picture {:.2f}", "most"),
    "head_pose_roll": Measure("not upright", "roll {:.0f} degrees", "most"),
    "head_pose_yaw": Measure("turned away", "yaw {:.0f} degrees", "most"),
    "luminance_least": Measure("too dark", "mean luminance {:.0f}", "least"),
    "luminance_most": Measure("too bright", "mean luminance {:.0f}", "most"),
    "over_exposure_prevention": Measure("clipped", "share of white {:.2f}", "most"),
    "sharpness": Measure("too blurred", "sharpness {:.1f}", "least"),
    "motion": Measure("blurred by motion", "sharpness along the motion {:.2f} of that across it", "least"),
    "second_look": Measure("not a face", "score of the crop {:.2f}", "least"),
    "upright": Measure("not upright", "score beside that of other turns {:+.2f}", "least"),
    "face_occlusion_prevention": Measure("covered", "score of the least visible part {:.2f}", "least"),
}
"""All measures by name, in the order in which they are judged."""


def judge(name: str, value: float, limit: float | None) -> Verdict:
    """The verdict on a measured value; a limit of None passes everything."""
    measure = MEASURES[name]
    words = measure.words.format(value)
    if limit is None:
        return Verdict(name, value, limit, True, measure.reason, f"{words}, not limited")
    least = measure.bound == "least"
    passed = value >= limit if least else value <= limit
    if passed:
        beside = f", at {measure.bound} {limit:g}"
    else:
        beside = f" is {'below' if least else 'above'} {limit:g}"
    return Verdict(name, value, limit, passed, measure.reason, words + beside)
