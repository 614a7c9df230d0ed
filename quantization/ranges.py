"""Which range an int8 activation covers: four ways to read it from one histogram.

256 levels are spread over a range of values. A wide range rounds everything coarsely, a narrow one clips what lies
outside. All four observers choose one number from the histogram of what was seen, the largest magnitude `t` that is
kept; the range is what `-t..t` leaves of lowest..highest:

    minmax      t is the largest magnitude: nothing is clipped
    percentile  that share of the values is not clipped
    mse         least mean squared error of rounding and clipping
    kl          least Kullback-Leibler divergence of the int8 values' distribution from the values' (Migacz, "8-bit
                inference with TensorRT", GTC 2017)
"""

from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_stscq.errors import EdgeError

Observer = Literal["minmax", "percentile", "mse", "kl"]
OBSERVERS: tuple[Observer, ...] = get_args(Observer)
LEVELS = 256

_BINS = 32768
"""At least four for each level of the narrowest range that is tried."""
_CANDIDATES = 128
"""Magnitudes that `mse` and `kl` try, evenly spaced up to the largest."""


def aligned(low: float, high: float) -> tuple[float, float]:
    """A range behind a ReLU, that is one from 0, in the nearest number of steps of a power of two; others as they are.

    Why: `quantization/exact.py`.
    """
    if low < 0 or high <= 0:
        return low, high
    return low, (LEVELS - 1) * 2.0 ** round(np.log2(high / (LEVELS - 1)))


class Histogram(nn.Module):
    """Passes a tensor on and counts its values in bins over -limit..limit, which doubles when a larger value comes."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = torch.zeros(_BINS, dtype=torch.float64)
        self.limit = 0.0
        self.low, self.high = 0.0, 0.0

    def forward(self, x: Tensor) -> Tensor:
        low, high = (float(end) for end in x.aminmax())
        peak = max(-low, high)
        if not np.isfinite(peak):
            raise EdgeError("the student's activations are not finite on these faces; train it again")
        self.low, self.high = min(self.low, low), max(self.high, high)
        if not self.limit and peak:
            self.limit = peak
        while peak > self.limit:
            merged = self.counts.view(-1, 2).sum(1)
            self.counts = nn.functional.pad(merged, (_BINS // 4, _BINS // 4))
            self.limit *= 2
        if self.limit:
            self.counts += torch.histc(x, _BINS, -self.limit, self.limit)
        else:
            self.counts[_BINS // 2] += x.numel()
        return x

    def range(self, observer: Observer, percentile: float) -> tuple[float, float]:
        """Lowest and highest value to represent; 0 lies between them. `percentile` is in 0..100."""
        if not self.limit:
            return 0.0, 0.0
        counts = self.counts.numpy()
        edges = np.linspace(-self.limit, self.limit, _BINS + 1)
        centers = (edges[1:] + edges[:-1]) / 2
        peak = max(-self.low, self.high)
        if observer == "minmax":
            t = peak
        elif observer == "percentile":
            shares = np.cumsum(counts[_BINS // 2 :] + counts[: _BINS // 2][::-1]) / counts.sum()
            t = float(edges[_BINS // 2 + 1 :][np.searchsorted(shares[:-1], percentile / 100)])
        else:
            cost = _squared_error if observer == "mse" else _divergence
            tried = peak * np.arange(_CANDIDATES, _CANDIDATES // 8 - 1, -1) / _CANDIDATES
            t = float(min(tried, key=lambda t: cost(centers, counts, *self._cut(t))))
        return self._cut(t)

    def _cut(self, t: float) -> tuple[float, float]:
        return max(self.low, -t), min(self.high, t)


def _squared_error(values: NDArray[np.float64], counts: NDArray[np.float64], low: float, high: float) -> float:
    scale = (high - low) / (LEVELS - 1)
    first = round(low / scale)
    rounded = np.clip(np.round(values / scale), first, first + LEVELS - 1) * scale
    return float(counts @ (values - rounded) ** 2)


def _divergence(values: NDArray[np.float64], counts: NDArray[np.float64], low: float, high: float) -> float:
    seen = counts.copy()
    middle = len(seen) // 2
    seen[middle] = seen[middle + 1]  # zeros are exact at any scale; behind a ReLU they would hide all else
    inside = np.flatnonzero((values >= low) & (values <= high))
    kept = seen[inside]
    clipped = kept.copy()
    clipped[0] += seen[: inside[0]].sum()
    clipped[-1] += seen[inside[-1] + 1 :].sum()
    level = np.minimum(((values[inside] - low) * (LEVELS / (high - low))).astype(int), LEVELS - 1)
    used = kept > 0
    mass, bins = np.bincount(level, kept, LEVELS), np.bincount(level, used, LEVELS)
    spread = np.where(used, mass[level] / np.maximum(bins[level], 1), 0)
    p, q = clipped / clipped.sum(), np.maximum(spread / spread.sum(), 1e-12)
    return float(np.sum(p * np.log(np.maximum(p, 1e-12) / q)))
