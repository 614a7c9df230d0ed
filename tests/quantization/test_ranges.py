"""One pass of counting, four ranges; each is held against what it promises."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edge_stscq.errors import EdgeError
from quantization import OBSERVERS
from quantization.ranges import LEVELS, Histogram


def counted(*parts: torch.Tensor) -> Histogram:
    histogram = Histogram()
    for part in parts:
        assert histogram(part) is part
    return histogram


@pytest.fixture(scope="module")
def tailed() -> torch.Tensor:
    """Rectified values with a long tail, as behind a ReLU; the largest is about 30 times their spread."""
    values = torch.distributions.StudentT(3.0).expand((200_000,))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return values.sample().relu()


def error(values: torch.Tensor, low: float, high: float) -> float:
    """Mean squared error of the values in int8 over this range."""
    scale = (high - low) / (LEVELS - 1)
    rounded = torch.fake_quantize_per_tensor_affine(values, scale, round(-128 - low / scale), -128, 127)
    return float((rounded - values).double().square().mean())


def test_growing_bins_count_what_fixed_bins_would() -> None:
    parts = [torch.linspace(-1, 1, 1001), 3 * torch.linspace(-1, 1, 1001), 11 * torch.linspace(-1, 1, 1001)]
    histogram = counted(*parts)
    assert histogram.limit == 16
    expected = torch.histc(torch.cat(parts).double(), len(histogram.counts), -16, 16)
    assert histogram.counts.sum() == expected.sum() == 3003
    assert (histogram.counts.cumsum(0) - expected.cumsum(0)).abs().max() <= 2  # values on the edge of a bin
    assert (histogram.low, histogram.high) == (-11, 11)


def test_minmax_clips_nothing(tailed: torch.Tensor) -> None:
    assert counted(tailed, -tailed / 2).range("minmax", 0) == (-tailed.max() / 2, tailed.max())


@pytest.mark.parametrize("percentile", [90, 99, 99.9])
def test_percentile_clips_its_share(tailed: torch.Tensor, percentile: float) -> None:
    low, high = counted(tailed).range("percentile", percentile)
    assert low == 0
    assert 100 * float((tailed <= high).double().mean()) == pytest.approx(percentile, abs=0.05 * (100 - percentile))


def test_all_of_the_values_are_the_largest(tailed: torch.Tensor) -> None:
    assert counted(tailed).range("percentile", 100)[1] == pytest.approx(float(tailed.max()))


def test_mse_is_the_best_of_all_cuts(tailed: torch.Tensor) -> None:
    low, high = counted(tailed).range("mse", 0)
    best = min(error(tailed, 0, float(tailed.max()) * part / 200) for part in range(20, 201))
    assert low == 0
    assert error(tailed, low, high) < 1.02 * best
    assert 1.02 * best < 0.95 * error(tailed, 0, float(tailed.max()))


def _divergence(values: torch.Tensor, high: float) -> float:
    """By counting levels: values within the range against each level's mass spread over 16 narrower bins."""
    fine, inside = 16 * LEVELS, values[(values > 0)]
    p = torch.histc(inside.clamp(max=high), fine, 0, high).double() / len(inside)
    q = torch.histc(inside[inside <= high], fine, 0, high).double().view(LEVELS, 16)
    q = (q.sum(1, keepdim=True) / (q > 0).sum(1, keepdim=True).clamp(min=1) * (q > 0)).flatten() / (
        inside <= high
    ).sum()
    used = p > 0
    return float((p[used] * (p[used] / q[used].clamp(min=1e-12)).log()).sum())


def test_kl_beats_no_cut_and_half_its_cut(tailed: torch.Tensor) -> None:
    """KL finds a smaller divergence than no cut and half its cut."""
    _, high = counted(tailed).range("kl", 0)
    assert high < tailed.max()
    assert _divergence(tailed, high) < min(_divergence(tailed, float(tailed.max())), _divergence(tailed, high / 2))


@pytest.mark.parametrize("observer", OBSERVERS)
def test_even_values_are_hardly_clipped(observer: str) -> None:
    low, high = counted(torch.linspace(-1, 1, 100_001)).range(observer, 99.99)  # type: ignore[arg-type]
    assert -low == high
    assert high > 0.97


@pytest.mark.parametrize("observer", OBSERVERS)
def test_a_dead_tensor_has_an_empty_range(observer: str) -> None:
    assert counted(torch.zeros(8)).range(observer, 99.99) == (0, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_values_without_bounds_are_refused(value: float) -> None:
    with pytest.raises(EdgeError, match="not finite"):
        counted(torch.tensor([0.0, value]))


def test_a_range_does_not_depend_on_the_batches(tailed: torch.Tensor) -> None:
    whole, parts = counted(tailed), counted(*tailed.sort().values.split(50_000))
    found: list[NDArray[np.float64]] = [
        np.array([h.range(observer, 99) for observer in OBSERVERS]) for h in (whole, parts)
    ]
    np.testing.assert_allclose(found[0], found[1], rtol=0.03)
