"""Frechet distance on distributions whose distance is known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_stscq.evaluation.appearance.frechet import Moments, frechet_distance


def moments(rows: NDArray[np.floating], batch: int = 7) -> Moments:
    found = Moments(rows.shape[1])
    for start in range(0, len(rows), batch):
        found.add(rows[start : start + batch])
    return found


def test_moments_of_batches_are_those_of_all_rows() -> None:
    rows = np.random.default_rng(0).normal(1e4, 1, (101, 5)).astype(np.float32)
    for found in (moments(rows), moments(rows, batch=40)):
        assert found.count == 101
        np.testing.assert_allclose(found.mean, rows.astype(np.float64).mean(0), rtol=1e-12)
        np.testing.assert_allclose(found.covariance, np.cov(rows.astype(np.float64).T), rtol=1e-8, atol=1e-10)


def test_one_row_has_no_covariance() -> None:
    with pytest.raises(ValueError, match="two rows"):
        _ = moments(np.ones((1, 3))).covariance


def test_a_shift_costs_its_square() -> None:
    rows = np.random.default_rng(0).normal(size=(200, 6))
    assert frechet_distance(moments(rows), moments(rows)) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(moments(rows), moments(rows + 2)) == pytest.approx(6 * 4)


def test_frechet_of_a_scale_is_the_squared_difference() -> None:
    """A scale costs the square of the difference of deviations."""
    rows = np.random.default_rng(0).normal(size=(200, 6))
    rows -= rows.mean(0)
    trace = np.trace(np.cov(rows.T))
    assert frechet_distance(moments(rows), moments(3 * rows)) == pytest.approx(4 * trace)


def test_it_is_the_one_that_a_general_matrix_root_gives() -> None:
    from scipy.linalg import sqrtm

    generator = np.random.default_rng(0)
    first = moments(generator.normal(size=(300, 8)) @ generator.normal(size=(8, 8)))
    second = moments(generator.normal(size=(300, 8)) @ generator.normal(size=(8, 8)) + 1)
    root = sqrtm(first.covariance @ second.covariance).real
    expected = np.square(first.mean - second.mean).sum() + np.trace(first.covariance + second.covariance - 2 * root)
    assert frechet_distance(first, second) == pytest.approx(expected)
    assert frechet_distance(second, first) == pytest.approx(expected)


def test_fewer_rows_than_columns_are_no_special_case() -> None:
    rows = np.random.default_rng(0).normal(size=(20, 64))
    assert frechet_distance(moments(rows), moments(rows)) == pytest.approx(0, abs=1e-6)
    turned = rows @ np.linalg.qr(np.random.default_rng(1).normal(size=(64, 64)))[0]
    assert np.isfinite(frechet_distance(moments(rows), moments(turned)))


def test_few_rows_of_one_distribution_seem_further_apart() -> None:
    rows = np.random.default_rng(0).normal(size=(4000, 16))
    few, many = (frechet_distance(moments(rows[:n]), moments(rows[n : 2 * n])) for n in (50, 2000))
    assert few > 5 * many > 0
