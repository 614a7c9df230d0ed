"""The gate before the encoder: is this a face of *this* picture, good enough to be matched?

A face that is upside down, half outside, blurred or none still becomes tokens, and they match strangers. Each measure
has a name, a value, a limit and a reason in words, because a counter that only says "refused" helps nobody who stands
before a camera. What costs little is judged first: place and pose from the points, then light and focus of the crop.
The detector's second looks (`looks.py`) come last, and only for what passed so far.

    gate = QualityGate(detector, Limits.load(path))
    for face in detector.faces(picture):
        judgement = gate.judge(picture, face)
        if judgement.refusal is None:
            code = encoder.encode(judgement.crop)
        else:
            refused[judgement.refusal.reason] += 1         # str(judgement.refusal) has value and limit, too
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from edge_stscq.device.crop import crop_face
from edge_stscq.device.detect import Detector, Face
from edge_stscq.device.quality import detail, light, place
from edge_stscq.device.quality.limits import Limits
from edge_stscq.device.quality.looks import SecondLooks
from edge_stscq.device.quality.score import best_shot_score
from edge_stscq.device.quality.verdict import Verdict, judge


@dataclass(frozen=True, eq=False)
class Judgement:
    """Verdicts of the gate on one face, and the crop they are about."""

    face: Face
    """With its points refined; the crop is cut by them."""
    crop: NDArray[np.uint8]
    """`uint8 [128, 128, 3]`, RGB."""
    verdicts: tuple[Verdict, ...]
    """In the order of judging; they end at the first that refuses, unless all were asked for."""
    refusal: Verdict | None
    """The first verdict that refuses the face; None: it may pass."""
    score: int
    """Rank of the shot among others of the same person, 0 to 100; see `best_shot_score`."""


class QualityGate:
    """Judges faces by limits. Keep one for many pictures; like its detector it is not for several threads at once.

    Args:
        detector: found the faces, and refines their points.
        limits: what they must reach.
    """

    def __init__(self, detector: Detector, limits: Limits | None = None) -> None:
        self.limits = Limits() if limits is None else limits
        self._detector = detector
        self._looks = SecondLooks()

    def judge(
        self, image: NDArray[np.uint8], face: Face, *, explain: bool = False, known_upright: bool = False
    ) -> Judgement:
        """The judgement on one face of a picture.

        Args:
            image: that `face` was found in, `uint8 [H, W, 3]`, RGB.
            face: one of `detector.faces(image)`.
            explain: go on after a refusal and measure even what is switched off, so that every verdict is there.
            known_upright: spare the three turns, half of what a judgement costs: the same face was judged upright a
                moment ago. Heads do not turn upside down between two pictures, but whoever says so must know that it
                is the same face.

        Raises:
            ValueError: the points of `face` coincide, which no detector says.
        """
        face = self._detector.refine(image, face)
        crop = crop_face(image, face.points)
        luminance = light.gray(crop)
        mean, clipped = light.mean(luminance), light.clipped(luminance)
        sharpness, yaw = detail.sharpness(luminance), place.yaw(face.points)
        look = cache(lambda: self._looks.look(crop, face.points))
        measures: dict[str, Callable[[], float]] = {
            "detector_score": lambda: face.score,
            "inter_eye_distance": lambda: face.eye_distance,
            "points_outside": lambda: place.points_outside(image.shape, face.points),
            "crop_outside": lambda: place.crop_outside(image.shape, face.points),
            "head_pose_roll": lambda: abs(face.roll),
            "head_pose_yaw": lambda: abs(yaw),
            "luminance_least": lambda: mean,
            "luminance_most": lambda: mean,
            "clipping": lambda: clipped,
            "sharpness": lambda: sharpness.weakest,
            "face_occlusion_prevention": lambda: detail.least_visible(luminance),
            "second_look": lambda: look().score,
            "upright": lambda: look().score - self._looks.best_turned(crop),
            "landmark_shift": lambda: look().shift,
        }
        verdicts: list[Verdict] = []
        for name, measure in measures.items():
            limit = getattr(self.limits, name)
            spared = limit is None or (known_upright and name == "upright")
            if explain or not spared:
                reason = "blurred by motion" if name == "sharpness" and sharpness.moved else None
                verdicts.append(judge(name, measure(), limit, reason))
                if not explain and self._refuses(verdicts[-1]):
                    break
        score = best_shot_score(
            eye_distance=face.eye_distance, sharpness=sharpness.weakest, yaw=yaw, luminance=mean, clipped=clipped
        )  # fmt: skip
        return Judgement(face, crop, tuple(verdicts), next(filter(self._refuses, verdicts), None), score)

    def _refuses(self, verdict: Verdict) -> bool:
        reported = verdict.name == "face_occlusion_prevention" and not self.limits.refuse_covered
        return not verdict.passed and not reported
