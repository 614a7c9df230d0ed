"""PolyProtect (Hahn and Marcel 2021, arXiv 2110.00434), from the paper: windows of an embedding become polynomials.

A record has `TERMS` coefficients and as many exponents. Each stored number is the sum of c_i v_i^e_i over one window of
the embedding; neighboring windows share `OVERLAP` numbers. Two are compared by their cosine. The paper leaves the scale
of embeddings open; ours have root mean square `SCALE`.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_stscq.config.codec import EMBEDDING
from edge_stscq.privacy.draws import orders
from edge_stscq.privacy.keys import RecordKey
from edge_stscq.privacy.scheme import Scheme

TERMS = 5
LARGEST = 50
"""Coefficients are whole numbers from -50 to 50, none of them 0 and no two alike."""
_LEAST = np.float32(1e-12)


class Polynomial(NamedTuple):
    """Coefficients float64 `[5]` and exponents int `[5]`, an order of 1 to 5."""

    coefficients: NDArray[np.float64]
    exponents: NDArray[np.intp]


class PolyProtect(Scheme[Polynomial]):
    """Cosine of polynomials.

    Args:
        overlap: numbers that neighboring windows share, 0 to 4: more of them tell people better apart and are easier
            to invert.
        scale: root mean square of the numbers that enter the polynomials.
    """

    number = 3
    name = "polyprotect"

    def __init__(self, overlap: int = 4, scale: float = EMBEDDING**-0.5) -> None:
        self.overlap, self.scale = overlap, scale
        step = TERMS - overlap
        self.windows = -(-(EMBEDDING - TERMS) // step) + 1
        self._index = np.arange(self.windows)[:, None] * step + np.arange(TERMS)
        self.content_bytes = 4 * self.windows

    def parameters(self, key: RecordKey) -> Polynomial:
        numbers = np.concatenate([np.arange(-LARGEST, 0), np.arange(1, LARGEST + 1)])
        drawn = numbers[orders(key, "polyprotect coefficients", 1, len(numbers))[0, :TERMS]]
        return Polynomial(drawn.astype(np.float64), orders(key, "polyprotect exponents", 1, TERMS)[0] + 1)

    def windowed(self, unit: NDArray[np.float64]) -> NDArray[np.float64]:
        """Windows `[W, 5]` of a scaled embedding, zeros behind its end."""
        padded = np.zeros(self._index[-1, -1] + 1)
        padded[:EMBEDDING] = unit * (self.scale * EMBEDDING**0.5)
        windows: NDArray[np.float64] = padded[self._index]
        return windows

    def protect(self, unit: NDArray[np.float64], parameters: Polynomial) -> NDArray[np.float32]:
        coefficients, exponents = parameters
        return (self.windowed(unit) ** exponents @ coefficients).astype(np.float32)

    def pack(self, values: NDArray[np.float32]) -> bytes:
        return values.astype("<f4").tobytes()

    def unpack(self, content: bytes) -> NDArray[np.float32]:
        return np.frombuffer(content, "<f4").astype(np.float32)

    def row(self, values: NDArray[np.float32], parameters: Polynomial) -> NDArray[np.float32]:
        coefficients = np.zeros((TERMS, TERMS), np.float32)
        coefficients[parameters.exponents - 1, np.arange(TERMS)] = parameters.coefficients
        return np.concatenate([coefficients.ravel(), values / max(np.linalg.norm(values), _LEAST)])

    def scores(self, rows: NDArray[np.float32], unit: NDArray[np.float64]) -> NDArray[np.float32]:
        powers = self.windowed(unit).T[None] ** np.arange(1, TERMS + 1)[:, None, None]
        protected = rows[:, : TERMS * TERMS] @ powers.reshape(TERMS * TERMS, self.windows).astype(np.float32)
        norms = np.sqrt(np.einsum("nw,nw->n", protected, protected))
        inner = np.einsum("nw,nw->n", protected, rows[:, TERMS * TERMS :])
        cosines: NDArray[np.float32] = inner / np.maximum(norms, _LEAST)
        return cosines

    def similarity(self, first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
        norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        cosines: NDArray[np.float32] = np.einsum("nw,nw->n", first, second) / np.maximum(norms, _LEAST)
        return cosines
