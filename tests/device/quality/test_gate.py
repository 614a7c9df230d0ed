"""The gate lets through a face of this picture, and names why it stops what is none."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_stscq._images import read_image
from edge_stscq.device.crop import TEMPLATE
from edge_stscq.device.detect import Detector, Face
from edge_stscq.device.quality import Judgement, Limits, QualityGate
from edge_stscq.device.quality.verdict import MEASURES

Picture = NDArray[np.uint8]
NAMES = ("astronaut", "grace_hopper")


@pytest.fixture(scope="module")
def gate(detector: Detector) -> QualityGate:
    return QualityGate(detector)


@pytest.fixture(scope="module")
def pictures(portrait: dict[str, Path]) -> dict[str, Picture]:
    return {name: read_image(portrait[name]) for name in NAMES}


@pytest.fixture(scope="module")
def faces(detector: Detector, pictures: dict[str, Picture]) -> dict[str, Face]:
    found = {name: detector.largest(picture) for name, picture in pictures.items()}
    return {name: face for name, face in found.items() if face is not None}


def reasons(gate: QualityGate, detector: Detector, picture: Picture) -> list[str | None]:
    """Reasons against all faces of a picture; None is one that passes."""
    judged = [gate.judge(picture, face).refusal for face in detector.faces(np.ascontiguousarray(picture))]
    return [None if refusal is None else refusal.reason for refusal in judged]


def part(picture: Picture, face: Face, left: float, top: float, right: float, bottom: float) -> Picture:
    """What lies between these multiples of the eye distance around the middle of eyes and mouth."""
    middle, unit = face.points[[0, 1, 3, 4]].mean(0), face.eye_distance
    x0, y0, x1, y1 = (round(float(at)) for at in (*(middle + np.array([left, top]) * unit),
                                                  *(middle + np.array([right, bottom]) * unit)))  # fmt: skip
    return np.ascontiguousarray(picture[max(y0, 0) : y1, max(x0, 0) : x1])


def noisy(picture: Picture, sigma: float) -> Picture:
    changed = picture + np.random.default_rng(0).normal(0, sigma, picture.shape)
    return np.asarray(np.clip(np.rint(changed), 0, 255), np.uint8)


def moved(picture: Picture, length: int, down: bool) -> Picture:
    return np.asarray(cv2.blur(picture, (1, length) if down else (length, 1)), np.uint8)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("degrees", [0, 15, -15])
def test_portrait_passes_upright_and_a_little_turned(
    name: str, degrees: float, gate: QualityGate, detector: Detector, pictures: dict[str, Picture]
) -> None:
    picture = pictures[name]
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    turned = np.asarray(cv2.warpAffine(picture, matrix, (width, height)), np.uint8)
    assert None in reasons(gate, detector, turned)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("turn", [cv2.ROTATE_180, cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_90_COUNTERCLOCKWISE])
def test_portrait_upside_down_or_on_its_side_is_not_upright(
    name: str, turn: int, gate: QualityGate, detector: Detector, pictures: dict[str, Picture]
) -> None:
    found = reasons(gate, detector, np.asarray(cv2.rotate(pictures[name], turn), np.uint8))
    assert None not in found
    assert "not upright" in found or turn != cv2.ROTATE_180


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "around", [(-2, 0, 2, 3), (-2, -3, 2, 0), (-3, -3, 0, 3), (0, -3, 3, 3), (-2, -0.45, 2, 3), (-0.45, -3, 3, 3)]
)
def test_half_a_face_is_cut_off_by_the_border(
    name: str, around: tuple[float, float, float, float], gate: QualityGate, detector: Detector,
    pictures: dict[str, Picture], faces: dict[str, Face],
) -> None:  # fmt: skip
    found = reasons(gate, detector, part(pictures[name], faces[name], *around))
    assert set(found) <= {"cut off by the border", "hardly a face", "too blurred"}


@pytest.mark.parametrize("name", NAMES)
def test_half_a_face_that_is_found_says_why(
    name: str, gate: QualityGate, detector: Detector, pictures: dict[str, Picture], faces: dict[str, Face]
) -> None:
    assert "cut off by the border" in reasons(gate, detector, part(pictures[name], faces[name], -2, -0.45, 2, 3))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("times", [0.5, 0.2, 0.1])
def test_little_light_is_not_taken_for_blur(
    name: str, times: float, gate: QualityGate, detector: Detector, pictures: dict[str, Picture]
) -> None:
    dark = np.asarray(np.rint(pictures[name] * times), np.uint8)
    found = reasons(gate, detector, dark)
    assert found
    assert set(found) <= {None, "too dark"}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sigma", [0.0, 8.0, 16.0])
def test_noise_does_not_hide_blur(
    name: str, sigma: float, gate: QualityGate, pictures: dict[str, Picture], faces: dict[str, Face]
) -> None:
    blurred = np.asarray(cv2.GaussianBlur(pictures[name], (0, 0), faces[name].eye_distance / 10), np.uint8)
    refusal = gate.judge(noisy(blurred, sigma), faces[name]).refusal
    assert refusal is not None
    assert refusal.reason == "too blurred"
    assert str(refusal) == f"too blurred (sharpness {refusal.value:.0f} is below {Limits().sharpness:g})"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("down", [False, True])
def test_motion_has_a_reason_of_its_own(
    name: str, down: bool, gate: QualityGate, pictures: dict[str, Picture], faces: dict[str, Face]
) -> None:
    length = round(faces[name].eye_distance * 0.45)
    refusal = gate.judge(moved(pictures[name], length, down), faces[name]).refusal
    assert refusal is not None
    assert (refusal.name, refusal.reason) == ("sharpness", "blurred by motion")


@pytest.mark.parametrize(("times", "reason"), [(0.02, "too dark"), (4.0, "clipped")])
def test_light_that_leaves_nothing_to_see_is_named(
    times: float, reason: str, gate: QualityGate, pictures: dict[str, Picture], faces: dict[str, Face]
) -> None:
    lit = np.asarray(np.clip(pictures["grace_hopper"] * times, 0, 255), np.uint8)
    failed = {verdict.reason for verdict in gate.judge(lit, faces["grace_hopper"], explain=True).verdicts
              if not verdict.passed}  # fmt: skip
    assert reason in failed


def test_round_thing_is_not_a_face(gate: QualityGate, pictures: dict[str, Picture]) -> None:
    picture = np.full((480, 640, 3), 110, np.uint8)
    cv2.circle(picture, (320, 240), 60, (190, 150, 130), -1)
    cv2.circle(picture, (320, 240), 35, (90, 60, 50), 4)
    points = (TEMPLATE - TEMPLATE.mean(0)) * 1.5 + (320, 240)
    refusal = gate.judge(noisy(picture, 2), Face(points, (250, 160, 140, 160), 0.9)).refusal
    assert refusal is not None
    assert refusal.reason == "not a face"


@pytest.mark.parametrize("name", NAMES)
def test_small_face_in_4k_is_judged_by_refined_points(
    name: str, gate: QualityGate, detector: Detector, pictures: dict[str, Picture], faces: dict[str, Face]
) -> None:
    times = 60 / faces[name].box[2]
    small = cv2.resize(pictures[name], None, fx=times, fy=times, interpolation=cv2.INTER_AREA)
    picture = np.full((2160, 3840, 3), 127, np.uint8)
    picture[900 : 900 + small.shape[0], 700 : 700 + small.shape[1]] = small
    face = detector.largest(picture)
    assert face is not None
    judgement = gate.judge(picture, face)
    assert judgement.refusal is None
    np.testing.assert_allclose(judgement.face.points, faces[name].points * times + (700, 900), atol=4)


def test_face_too_small_is_named(gate: QualityGate, detector: Detector, pictures: dict[str, Picture]) -> None:
    small = cv2.resize(pictures["astronaut"], None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    assert reasons(gate, detector, np.asarray(small, np.uint8)) == ["too small"]


def test_covered_face_is_reported_and_refused_only_where_asked(
    gate: QualityGate, detector: Detector, pictures: dict[str, Picture], faces: dict[str, Face]
) -> None:
    picture, face = pictures["grace_hopper"].copy(), faces["grace_hopper"]
    x, y = (round(float(at)) for at in face.points[3:].mean(0))
    cv2.rectangle(picture, (x - 90, y - 25), (x + 90, y + 90), (70, 90, 120), -1)
    covered = [verdict for verdict in gate.judge(picture, face, explain=True).verdicts if verdict.reason == "covered"]
    assert [verdict.passed for verdict in covered] == [False]
    strict = QualityGate(detector, Limits(refuse_covered=True)).judge(picture, face)
    assert strict.refusal == covered[0]
    lenient = gate.judge(picture, face).refusal
    assert lenient is None or lenient.reason != "covered"


def test_best_shot_is_chosen_after_judging(gate: QualityGate, detector: Detector, pictures: dict[str, Picture]) -> None:
    """A large blurred face beside a small sharp one: each is judged, and one passes."""
    sharp = cv2.resize(pictures["astronaut"][:300, 60:460], None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA)
    picture = np.full((600, 900, 3), 120, np.uint8)
    picture[:, :512] = cv2.GaussianBlur(pictures["grace_hopper"], (0, 0), 9)
    picture[50 : 50 + sharp.shape[0], 540 : 540 + sharp.shape[1]] = sharp
    assert reasons(gate, detector, picture) == ["too blurred", None]


def test_explained_judgement_has_every_verdict_in_order(
    gate: QualityGate, pictures: dict[str, Picture], faces: dict[str, Face]
) -> None:
    picture, face = pictures["astronaut"], faces["astronaut"]
    explained, brief = gate.judge(picture, face, explain=True), gate.judge(picture, face)
    assert [verdict.name for verdict in explained.verdicts] == list(MEASURES)
    assert brief.verdicts == explained.verdicts
    dark = np.asarray(picture // 50, np.uint8)
    assert [verdict.name for verdict in gate.judge(dark, face, explain=True).verdicts] == list(MEASURES)
    ended = gate.judge(dark, face)
    assert ended.verdicts[-1] == ended.refusal


def test_what_is_switched_off_is_not_judged(
    detector: Detector, pictures: dict[str, Picture], faces: dict[str, Face]
) -> None:
    off = Limits(**{name: None for name in MEASURES})
    gate = QualityGate(detector, off)
    blank = np.zeros_like(pictures["astronaut"])
    assert gate.judge(blank, faces["astronaut"]).verdicts == ()
    explained = gate.judge(blank, faces["astronaut"], explain=True)
    assert len(explained.verdicts) == len(MEASURES)
    assert all(verdict.passed and verdict.limit is None for verdict in explained.verdicts)


def test_known_upright_spares_the_turns(
    gate: QualityGate, pictures: dict[str, Picture], faces: dict[str, Face]
) -> None:
    verdicts = gate.judge(pictures["astronaut"], faces["astronaut"], known_upright=True).verdicts
    assert [verdict.name for verdict in verdicts] == [name for name in MEASURES if name != "upright"]


def scores(judgements: list[Judgement]) -> list[int]:
    return [judgement.score for judgement in judgements]


def test_score_falls_with_blur_size_and_light(
    gate: QualityGate, pictures: dict[str, Picture], faces: dict[str, Face]
) -> None:
    picture, face = pictures["grace_hopper"], faces["grace_hopper"]
    blurred = [np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), np.uint8) for sigma in (3, 6, 9)]
    dark = [np.asarray(picture * times, np.uint8) for times in (1.0, 0.3, 0.1)]
    small = [np.asarray(cv2.resize(picture, None, fx=times, fy=times, interpolation=cv2.INTER_AREA), np.uint8)
             for times in (0.8, 0.6, 0.4)]  # fmt: skip
    falling = [scores([gate.judge(one, face) for one in blurred]), scores([gate.judge(one, face) for one in dark])]
    falling.append(scores([
        gate.judge(one, Face(face.points * times, (20, 20, 99, 99), 0.9))
        for one, times in zip(small, (0.8, 0.6, 0.4), strict=True)
    ]))  # fmt: skip
    for row in falling:
        assert row == sorted(row, reverse=True)
        assert row[0] > row[-1]
        assert all(0 <= score <= 100 for score in row)
