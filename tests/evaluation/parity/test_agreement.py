"""Agreement of codes on hand-made cases."""

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_stscq.evaluation.parity import agreement
from edge_stscq.evaluation.parity.agreement import DISTANCE_BARS, DISTANCE_STEP, Agreement
from edge_stscq.evaluation.parity.summary import agreement_rows
from edge_stscq.stream import Codes

ENDS = (1, 2, 4)
BOOKS = np.arange(2 * 4 * 3 * 1, dtype=np.float32).reshape(2, 4, 3, 1)
"""M=2, T=4, K=3, D=1: the entries of each codebook are one apart."""


def codes(groups: list[int], tokens: list[list[int]]) -> Codes:
    return Codes(np.array(groups, np.int32), np.array(tokens, np.int32), 2)


def compare(
    right: Codes, other: Codes, ends: tuple[int, ...], books: NDArray[np.float32], margin: NDArray[np.float32],
    vectors: NDArray[np.float32] | None = None,
) -> Agreement:  # fmt: skip
    """Agreement; token vectors are zero where nothing is said of them."""
    if vectors is None:
        vectors = np.zeros((*right.tokens.shape, books.shape[-1]), np.float32)
    return agreement.compare(right, other, ends, books, margin, vectors)


def test_equal_codes_agree_everywhere() -> None:
    one = codes([0, 1], [[0, 1, 2, 0], [2, 2, 1, 1]])
    result = compare(one, one, ENDS, BOOKS, np.ones((2, 4), np.float32))
    assert (result.groups, result.tokens, result.tokens_in_same_group, result.faces_equal) == (1, 1, 1, 1)
    assert result.layers == (1, 1, 1)
    assert result.excess_distortion == (0, 0, 0)
    assert result.positions == (1, 1, 1, 1)
    assert (result.flips, result.flip_distances, result.clear_tokens) == (0, None, None)


def test_flips_by_layer_and_margin() -> None:
    right = codes([0, 0], [[0, 0, 0, 0], [0, 0, 0, 0]])
    other = codes([0, 0], [[1, 0, 0, 0], [0, 0, 2, 0]])
    margin = np.array([[0.1, 0.5, 0.6, 0.7], [0.8, 0.3, 0.2, 0.9]], np.float32)
    result = compare(right, other, ENDS, BOOKS, margin)
    assert result.tokens == 6 / 8
    assert result.layers == (1 / 2, 1, 3 / 4)
    assert result.positions == (1 / 2, 1, 1 / 2, 1)
    assert result.faces_equal == 0
    assert [bucket.tokens for bucket in result.margins] == [0, 1, 1, 1]  # both flips are the nearest ties
    # Distances 1 and 2; two random entries of {0, 1, 2} have a variance of 2/3 each, so a mean square distance of 4/3.
    assert result.margins[-1].upper == pytest.approx(0.9 / (4 / 3))
    assert result.flips == 2
    far = result.flip_distances
    assert far is not None
    assert far.mean == pytest.approx(1.5 / np.sqrt(4 / 3))
    assert (far.median, far.largest) == pytest.approx((far.mean, 2 / np.sqrt(4 / 3)))
    assert far.mean < far.p95 < far.largest
    assert {bar: count for bar, count in enumerate(far.histogram) if count} == {8: 1, 17: 1}  # 0.87 and 1.73


def test_margins_are_relative_to_their_codebook() -> None:
    """Position 3 is a hundred times larger in every respect; its nearest ties are still its nearest ties."""
    books = BOOKS.copy()
    books[:, 3] *= 100
    right = codes([0] * 4, [[0] * 4] * 4)
    other = codes([0] * 4, [[0] * 4] * 3 + [[0, 0, 0, 1]])
    margin = np.repeat(np.array([[4], [3], [2], [1]], np.float32), 4, axis=1) * np.array([1, 1, 1, 100**2], np.float32)
    result = compare(right, other, ENDS, books, margin)
    assert [bucket.tokens for bucket in result.margins] == [3 / 4, 1, 1, 1]
    assert result.flip_distances is not None
    assert result.flip_distances.mean == pytest.approx(1 / np.sqrt(4 / 3))


def test_a_flip_far_away_is_in_the_last_bar() -> None:
    """An outlier among close entries: further apart than any two random ones."""
    books = np.zeros((1, 1, 100, 1), np.float32)
    books[0, 0, 1] = 1
    result = compare(codes([0], [[0]]), codes([0], [[1]]), (1, 1, 1), books, np.ones((1, 1), np.float32))
    assert result.flip_distances is not None
    assert result.flip_distances.largest > DISTANCE_BARS * DISTANCE_STEP
    assert result.flip_distances.histogram == (0,) * (DISTANCE_BARS - 1) + (1,)


def test_clear_tokens_lie_above_the_median_margin_of_flips() -> None:
    """Flips at the margins 1, 3 and 7; of the five tokens above 3, one is wrong. The other group does not count."""
    margin = np.array([[1, 2, 3, 4], [5, 6, 7, 8], [9, 9, 9, 9]], np.float32)
    other = codes([0, 0, 1], [[1, 0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]])
    result = compare(codes([0] * 3, [[0] * 4] * 3), other, ENDS, BOOKS, margin)
    assert result.flips == 3
    assert result.clear_tokens == 4 / 5


def test_another_group_disagrees_even_where_indices_are_equal() -> None:
    right, other = codes([0, 0], [[0, 1, 2, 0], [0, 0, 0, 0]]), codes([1, 0], [[0, 1, 2, 0], [0, 0, 0, 1]])
    result = compare(right, other, ENDS, BOOKS, np.ones((2, 4), np.float32))
    assert result.groups == 0.5
    assert result.tokens == 3 / 8
    assert result.tokens_in_same_group == 3 / 4
    assert result.flips == 1


def test_no_common_group_leaves_nothing_to_take_a_share_of() -> None:
    result = compare(codes([0], [[0] * 4]), codes([1], [[0] * 4]), ENDS, BOOKS, np.ones((1, 4), np.float32))
    assert (result.groups, result.tokens) == (0, 0)
    assert result.tokens_in_same_group is None
    assert {bucket.tokens for bucket in result.margins} == {None}


def test_a_layer_without_tokens() -> None:
    one = codes([0], [[0, 0, 0, 0]])
    result = compare(one, one, (2, 2, 4), BOOKS, np.ones((1, 4), np.float32))
    assert result.layers == (1, None, 1)
    assert result.excess_distortion == (0, None, 0)


def test_another_group_that_fits_alike_costs_little_and_one_that_does_not_much() -> None:
    """Vectors at 0.25 of the way between entry 0 and entry 1, whose squared distances are 1/16 and 9/16."""
    books = np.zeros((3, 4, 2, 1), np.float32)
    books[:, :, 1] = 1
    books[1] += 0.5  # as far on the other side
    books[2] += 0.75
    vectors = np.full((2, 4, 1), 0.25, np.float32)
    right, margin = codes([0, 0], [[0] * 4] * 2), np.full((2, 4), 0.5, np.float32)

    def excess(other: Codes) -> tuple[float | None, ...]:
        return compare(right, other, ENDS, books, margin, vectors).excess_distortion

    tie, worse = codes([1, 0], [[0] * 4] * 2), codes([2, 0], [[0] * 4] * 2)
    assert excess(tie) == (0, 0, 0)
    assert excess(worse) == pytest.approx(((4 / 16 + 1 / 16) / (2 / 16) - 1,) * 3)
    assert excess(codes([0, 0], [[0, 0, 1, 0], [0] * 4])) == pytest.approx((0, 0, (9 + 3) / 4 - 1))
    assert compare(right, tie, ENDS, books, margin, vectors).groups == 0.5


def test_rows_name_the_first_layer_that_costs_most() -> None:
    one, other = codes([0], [[0, 0, 0, 0]]), codes([0], [[0, 0, 2, 0]])
    vectors = np.full((1, 4, 1), 0.5, np.float32) + BOOKS[:1, :, 0]
    names, margin = ("basic", "middle", "enhanced"), np.ones((1, 4), np.float32)
    for found, value in ((one, "0.00 % (basic)"), (other, "400.00 % (enhanced)")):
        rows = dict(agreement_rows(compare(one, found, ENDS, BOOKS, margin, vectors), names))
        assert rows["excess distortion, worst layer"] == value


def test_codes_of_different_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        compare(codes([0], [[0] * 4]), codes([0], [[0] * 3]), ENDS, BOOKS, np.ones((1, 4), np.float32))
