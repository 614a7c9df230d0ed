"""Frechet distance between two sets of features (Heusel et al. 2017, arXiv 1706.08500, eq. 6).

Both sets are taken for normal distributions: |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)). The distance is 0 for equal
sets and has no upper end. It asks whether faces *as a set* look like photographs: it sees grain, blur and missing
variety, and does not see whether each face is its own original's.

Few faces bias it upwards (both covariances are estimates), so compare values of equal numbers of faces only, and put
beside them what two halves of the originals have.
"""

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


class Moments:
    """Mean and covariance of rows that come in batches, in float64.

    Batches are merged by their own means (Chan et al. 1979), so that nothing cancels when means are large.

    Example:
        >>> moments = Moments(2)
        >>> moments.add(np.array([[0.0, 1.0], [2.0, 1.0]]))
        >>> moments.mean.tolist(), moments.covariance.tolist()
        ([1.0, 1.0], [[2.0, 0.0], [0.0, 0.0]])
    """

    def __init__(self, width: int) -> None:
        self.count = 0
        self.mean: Matrix = np.zeros(width)
        self._scatter: Matrix = np.zeros((width, width))

    def add(self, rows: NDArray[np.floating]) -> None:
        """Take in features [N, width]."""
        if len(rows):
            values = rows.astype(np.float64)
            mean = values.mean(axis=0)
            self._merge(len(values), mean, (values - mean).T @ (values - mean))

    def merged(self, other: "Moments") -> "Moments":
        """The moments of both sets together."""
        both = Moments(len(self.mean))
        for part in (self, other):
            if part.count:
                both._merge(part.count, part.mean, part._scatter)
        return both

    @property
    def covariance(self) -> Matrix:
        """Unbiased, [width, width].

        Raises:
            ValueError: fewer than two rows were added.
        """
        if self.count < 2:
            raise ValueError("a covariance needs two rows or more")
        return np.asarray(self._scatter / (self.count - 1))

    def _merge(self, count: int, mean: Matrix, scatter: Matrix) -> None:
        total = self.count + count
        shift = mean - self.mean
        self._scatter = self._scatter + scatter + np.outer(shift, shift) * (self.count * count / total)
        self.mean = self.mean + shift * (count / total)
        self.count = total


def frechet_distance(first: Moments, second: Moments) -> float:
    """Squared Frechet distance of two normal distributions; at least 0.

    The trace of the root of C1 C2 is that of the symmetric C1^(1/2) C2 C1^(1/2), whose eigenvalues are real and not
    negative: no complex root is taken, and covariances of fewer rows than columns are no special case.
    """
    one, two = first.covariance, second.covariance
    values, vectors = np.linalg.eigh(one)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    inner = root @ two @ root
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh((inner + inner.T) / 2), 0)).sum()
    apart = np.square(first.mean - second.mean).sum()
    return max(0.0, float(apart + np.trace(one) + np.trace(two) - 2 * shared))
