"""Measures of a face, and verdicts on them.

Names that ISO/IEC 29794-5 has for a component are used where the same property is meant; the values are this project's
own, and no conformance is claimed.
"""

import re
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
    """Name of a failure, short and countable: "too blurred"."""
    detail: str
    """The measurement and the limit in words: "sharpness 9 is below 15"."""

    def __str__(self) -> str:
        return self.detail if self.passed else f"{self.reason} ({self.detail})"


@dataclass(frozen=True)
class Measure:
    """Reading of one measure."""

    reason: str
    words: str
    """With a place for the number, as it is shown unless it would read like the limit."""
    bound: Literal["least", "most"]


MEASURES: dict[str, Measure] = {
    "detector_score": Measure("hardly a face", "score {:.2f}", "least"),
    "inter_eye_distance": Measure("too small", "eye distance {:.0f} px", "least"),
    "points_outside": Measure("cut off by the border", "farthest point outside {:.2f} eye distances", "most"),
    "crop_outside": Measure("cut off by the border", "share outside the picture {:.2f}", "most"),
    "head_pose_roll": Measure("not upright", "roll {:.0f} degrees", "most"),
    "head_pose_yaw": Measure("turned away", "yaw {:.0f} degrees", "most"),
    "luminance_least": Measure("too dark", "mean luminance {:.0f}", "least"),
    "luminance_most": Measure("too bright", "mean luminance {:.0f}", "most"),
    "clipping": Measure("clipped", "share of black and white {:.2f}", "most"),
    "sharpness": Measure("too blurred", "sharpness {:.0f}", "least"),
    "face_occlusion_prevention": Measure("covered", "detail of the least visible part {:.2f}", "least"),
    "second_look": Measure("not a face", "score of the crop {:.2f}", "least"),
    "upright": Measure("not upright", "score beside that of other turns {:+.2f}", "least"),
    "landmark_shift": Measure("hardly a face", "shift of the points {:.1f} px", "most"),
}
"""All measures by name, in the order in which they are judged."""
_PLACE = re.compile(r"\{:[^}]*\}")


def judge(name: str, value: float, limit: float | None, reason: str | None = None) -> Verdict:
    """The verdict on a measured value; a limit of None passes everything.

    Args:
        name: one of `MEASURES`.
        value: as measured.
        limit: the least or the most that passes.
        reason: what a failure is called, where that depends on more than the value.
    """
    measure = MEASURES[name]
    reason = measure.reason if reason is None else reason
    if limit is None:
        return Verdict(name, value, limit, True, reason, f"{measure.words.format(value)}, not limited")
    least = measure.bound == "least"
    passed = value >= limit if least else value <= limit
    words = measure.words.format(value)
    if not passed and float(_PLACE.findall(measure.words)[0].format(value)) == limit:  # no "20 px is below 20"
        words = _PLACE.sub("{:.6g}", measure.words).format(value)
    beside = f", at {measure.bound} {limit:g}" if passed else f" is {'below' if least else 'above'} {limit:g}"
    return Verdict(name, value, limit, passed, reason, words + beside)
