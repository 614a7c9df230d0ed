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
        self._root: Matrix | None = None

    def add(self, rows: NDArray[np.floating]) -> None:
        """Take in features [N, width]."""
        if len(rows):
            values = rows.astype(np.float64)
            mean = values.mean(axis=0)
            total, shift = self.count + len(values), mean - self.mean
            between = np.outer(shift, shift) * (self.count * len(values) / total)
            self._scatter = self._scatter + (values - mean).T @ (values - mean) + between
            self.mean = self.mean + shift * (len(values) / total)
            self.count = total
            self._root = None

    @property
    def covariance(self) -> Matrix:
        """Unbiased, [width, width].

        Raises:
            ValueError: fewer than two rows were added.
        """
        if self.count < 2:
            raise ValueError("a covariance needs two rows or more")
        return np.asarray(self._scatter / (self.count - 1))

    @property
    def root(self) -> Matrix:
        """Matrix [width, rank] whose product with its own transpose is the covariance.

        Directions without variance have no column: where rows are fewer than columns, they are most.

        Raises:
            ValueError: fewer than two rows were added.
        """
        if self._root is None:
            values, vectors = np.linalg.eigh(self.covariance)
            varied = values > len(values) * np.finfo(np.float64).eps * values.max()
            self._root = vectors[:, varied] * np.sqrt(values[varied])
        return self._root


def frechet_distance(first: Moments, second: Moments) -> float:
    """Squared Frechet distance of two normal distributions; at least 0.

    With C1 = R R^T, the eigenvalues of C1 C2 other than zero are those of the symmetric R^T C2 R, real and not
    negative: no complex root is taken, and covariances of fewer rows than columns are no special case. R is that of the
    first set, which computes it once for all that it is compared with.
    """
    root, two = first.root, second.covariance
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root.T @ two @ root), 0)).sum()
    apart = np.square(first.mean - second.mean).sum()
    return max(0.0, float(apart + np.trace(first.covariance) + np.trace(two) - 2 * shared))
