"""False matches, intervals and codebook groups by label, on known answers."""

import numpy as np
import pytest

from edge_stscq.errors import EdgeError
from edge_stscq.evaluation.subgroups import false_matches, group_shares, told_bits, utkface_labels, wilson


def test_wilson_is_what_the_books_say() -> None:
    assert wilson(0, 10) == pytest.approx((0, 0.2775), abs=1e-4)
    assert wilson(10, 10) == pytest.approx((0.7225, 1), abs=1e-4)
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)


def test_a_false_match_is_a_pair_above_the_threshold() -> None:
    angle = np.radians([0, 10, 100])
    unit = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    low, high = false_matches(unit, (-0.5, 0.5))
    assert (low.matches, low.pairs, low.rate) == (3, 3, 1)
    assert (high.matches, high.pairs) == (1, 3)
    assert high.rate == pytest.approx(1 / 3)
    assert high.low < high.rate < high.high


def test_labels_are_read_from_names() -> None:
    found = {(label, value): faces for label, value, faces in utkface_labels(["3_0_0_x", "4_1_4_y", "90_1_0_z"])}
    assert found["age", "0 to 3"].tolist() == [True, False, False]
    assert found["age", "4 to 12"].tolist() == [False, True, False]
    assert found["age", "60 and older"].tolist() == [False, False, True]
    assert found["gender", "female"].tolist() == [False, True, True]
    assert found["race", "White"].tolist() == [True, False, True]
    with pytest.raises(EdgeError, match="age_gender_race"):
        list(utkface_labels(["somebody"]))


def test_groups_tell_all_of_a_label_or_nothing() -> None:
    label = np.arange(4000) % 2
    assert group_shares(label * 2, 4) == [0.5, 0, 0.5, 0]
    assert told_bits(label * 2, label) == pytest.approx(1, abs=1e-3)
    chance = np.random.default_rng(0).integers(0, 16, 4000)
    assert told_bits(chance, label) < 0.003
    assert told_bits(np.zeros(10, int), np.arange(10) % 2) == 0
