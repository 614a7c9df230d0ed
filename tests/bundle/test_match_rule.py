"""Scores against a cohort, verdicts by thresholds, and files that do not belong together."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_stscq.bundle.match_rule import COHORT, NEAREST, Cohort, MatchRule, track_average
from edge_stscq.config.match_thresholds import FILE, MatchThresholds
from edge_stscq.errors import EdgeError
from tests.support.models.match_rules import rule_of, unit_vectors


@pytest.fixture
def rule() -> MatchRule:
    return rule_of("0123456789abcdef", ("basic", "middle"), unit_vectors(8, 1).astype(np.float16)[None].repeat(2, 0))


def by_hand(a: NDArray[np.float32], b: NDArray[np.float32], centers: NDArray[np.float32]) -> float:
    """Score as the formula reads, in double precision."""
    first, second, around = (x.astype(np.float64) for x in (a, b, centers))
    density = [np.sort(around @ one)[-NEAREST:].mean() for one in (first, second)]
    return float(first @ second - sum(density) / 2)


def test_scores_follow_formula(rule: MatchRule) -> None:
    a, b = unit_vectors(3, 2), unit_vectors(4, 3)
    assert rule.cohort is not None
    centers = rule.cohort.centers[0].astype(np.float32)
    expected = [[by_hand(one, other, centers) for other in b] for one in a]
    assert np.allclose(rule.scores(a, b, 1), expected, atol=1e-6)
    assert np.allclose(rule.scores(a, b, 2), rule.scores(b, a, 2).T, atol=1e-6)


def test_scores_without_cohort_are_cosines(rule: MatchRule) -> None:
    a, b = unit_vectors(3, 2), unit_vectors(4, 3)
    assert np.array_equal(MatchRule(rule.thresholds, None).scores(a, b, 1), a @ b.T)


def test_verdict_of_each_side_of_both_thresholds(rule: MatchRule) -> None:
    limits = rule.thresholds.limits(2)
    strict, loose = limits.same_person.score, limits.perhaps.score
    said = [rule.thresholds.verdict(score, 2) for score in (strict + 1e-6, strict, loose + 1e-6, loose, -1.0)]
    assert said == ["same person", "perhaps", "perhaps", "nobody here", "nobody here"]
    assert limits.passed(strict + 1e-6) == limits.same_person
    assert limits.passed(loose) is None
    (one,) = unit_vectors(1, 5)
    assert rule.verdict(one, one, 1) == "same person"


def test_limits_of_layers_and_tracks_never_measured_are_refused(rule: MatchRule) -> None:
    with pytest.raises(EdgeError, match="known for 1 to 2 layers, not for 3"):
        rule.thresholds.limits(3)
    with pytest.raises(EdgeError, match="visit's average"):
        rule.thresholds.limits(1, track=True)


def test_track_average_is_unit_vector_of_the_sum() -> None:
    faces = unit_vectors(5, 4)
    average = track_average(faces)
    assert average.dtype == np.float32
    assert np.isclose(np.linalg.norm(average), 1, atol=1e-6)
    assert np.allclose(average * np.linalg.norm(faces.sum(0)), faces.sum(0), atol=1e-5)


def test_files_come_back_and_belong_together(rule: MatchRule, tmp_path: Path) -> None:
    assert MatchRule.load(tmp_path) is None
    rule.save(tmp_path)
    again = MatchRule.load(tmp_path)
    assert again is not None
    assert again.cohort is not None
    assert rule.cohort is not None
    assert again.thresholds == rule.thresholds
    assert np.array_equal(again.cohort.centers, rule.cohort.centers)
    first = (tmp_path / COHORT).read_bytes()
    other = Cohort(unit_vectors(8, 9).astype(np.float16)[None].repeat(2, 0))
    (tmp_path / COHORT).write_bytes(other.to_bytes())
    with pytest.raises(EdgeError, match="not the cohort that the thresholds were measured with"):
        MatchRule.load(tmp_path)
    (tmp_path / COHORT).unlink()
    with pytest.raises(EdgeError, match="not the cohort"):
        MatchRule.load(tmp_path)
    (tmp_path / COHORT).write_bytes(first)
    assert MatchRule.load(tmp_path) is not None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format_version": 2}, "format_version"), ({"layers": []}, "layers"), ({"model_id": "x"}, "model_id"),
        ({"more": 1}, "more"),
    ],
)  # fmt: skip
def test_damaged_thresholds_are_named(rule: MatchRule, tmp_path: Path, change: dict[str, object], said: str) -> None:
    content = rule.thresholds.model_dump(mode="json") | change
    (tmp_path / FILE).write_text(json.dumps(content))
    with pytest.raises(EdgeError, match=f"{FILE}: {said}.*measure them again"):
        MatchThresholds.load(tmp_path)


def test_thresholds_in_the_wrong_order_are_refused(rule: MatchRule, tmp_path: Path) -> None:
    content = rule.thresholds.model_dump(mode="json")
    content["layers"][0]["pair"]["same_person"]["score"] = -0.5
    (tmp_path / FILE).write_text(json.dumps(content))
    with pytest.raises(EdgeError, match="same_person lies below perhaps"):
        MatchThresholds.load(tmp_path)


@pytest.mark.parametrize(
    "centers",
    [
        np.zeros((2, 8, 128), np.float32), np.zeros((2, 2, 128), np.float16), np.zeros((8, 128), np.float16),
        np.full((2, 8, 128), np.nan, np.float16), np.zeros((2, 8, 64), np.float16),
    ],
)  # fmt: skip
def test_cohorts_of_other_shapes_are_refused(rule: MatchRule, centers: NDArray[np.float16]) -> None:
    with pytest.raises(ValueError, match="centers"):
        Cohort(centers)


def test_thresholds_of_another_model_are_refused(rule: MatchRule) -> None:
    thresholds = rule.thresholds
    thresholds.check(bytes.fromhex("0123456789abcdef"), ("basic", "middle"), "here")
    for model_id, names in ((b"another.", ("basic", "middle")), (bytes.fromhex("0123456789abcdef"), ("basic",))):
        with pytest.raises(EdgeError, match="measure it again"):
            thresholds.check(model_id, names, "here")
    assert replace(rule, cohort=None).cohort is None
