"""Frequencies of the tokens of a layer, given the group and the tokens of the layers below: a softmax in whole numbers.

A code word `u` of eight bits has the forms `u` and `u * u >> 7` of each of its components. The layers below choose a
*tilt* for each form of each position, linear in their code words, and a token's score is the product of its forms and
the tilts. The static frequency of a token, times two to the power of its score, is its *mass*:

    tilt  = clip(bias + sum of weight * u below >> shift)
    place = largest score - score >> 6                        whole 1/256 of a bit
    mass  = static frequency * floor(2 ** (15 - place / 256))

Masses become frequencies that sum to `2**16` by rounding their cumulative sums, with one unit set aside for each entry.
docs/spec/wire.md says all of it to the bit; `weights.py` says why float32 adds these numbers exactly.
"""

from math import isqrt

import numpy as np
from numpy.typing import NDArray

from edge_stscq.stream.arithmetic import TOTAL
from edge_stscq.stream.batch import row_size
from edge_stscq.stream.learned.weights import SQUARE_SHIFT, TILT_LIMIT, Weights

_SCORE_SHIFT = 6
"""Bits that a score loses, so that it counts 1/256 of a bit."""
_HEIGHT = 15
_MASS_BITS = 17
"""Bits of the sum of a row's masses when these become frequencies."""
_SHARE_BITS = 15
"""Bits behind the point of the units that a unit of mass gets: all products are below `2**31`."""
_BLOCK = 256
"""Rows that are made at once: as many as a processor's nearest memory has room for."""


def _powers() -> NDArray[np.uint32]:
    """`floor(2 ** (15 - n / 256))` for n from 0 to 3839, then a zero: what is rarer has no mass.

    Each is the 256th root of `2 ** (3840 - n)`, by eight square roots of whole numbers.
    """
    found = []
    for place in range(256 * _HEIGHT):
        root = 1 << 256 * _HEIGHT - place
        for _ in range(8):
            root = isqrt(root)
        found.append(root)
    return np.array([*found, 0], np.uint32)


_POWERS = _powers()


class Predictor:
    """Cumulative frequencies by weights and static frequencies.

    Args:
        frequencies: uint32 `[M, T, K]`, each at least 1, each row summing to `2**16`.
    """

    def __init__(self, weights: Weights, frequencies: NDArray[np.uint32]) -> None:
        words = weights.words.astype(np.int32)
        forms = np.concatenate([words, words * words >> SQUARE_SHIFT], -1)
        self._forms = np.ascontiguousarray(forms.swapaxes(2, 3), np.float32) / np.float32(1 << _SCORE_SHIFT)
        self._words = words.astype(np.float32)
        self._frequencies, self._bias, self._shifts = frequencies, weights.bias, weights.shifts
        self._ends = weights.layer_ends
        self._matrices = [
            np.ascontiguousarray(matrix.reshape(matrix.shape[0] * matrix.shape[1], -1).T, np.float32)
            for matrix in weights.matrices
        ]

    def starts(self, layer: int, group: int, tokens: NDArray[np.integer]) -> NDArray[np.uint32]:
        """Cumulative frequencies `[n, N, K + 1]` of the `n` positions of a layer, filled up to `batch.row_size`.

        Args:
            layer: counted from 0.
            group: of all these faces.
            tokens: `[N, tokens of the layers below]` or more.
        """
        end = self._ends[layer - 1] if layer else 0
        part = slice(end, self._ends[layer])
        sums = self._bias[group, part][None].repeat(len(tokens), 0)
        if layer:
            below = self._words[group, np.arange(end), tokens[:, :end]].reshape(len(tokens), -1)
            sums += (below @ self._matrices[layer - 1]).astype(np.int32).reshape(sums.shape)
        tilts = np.clip(sums >> self._shifts[part], -TILT_LIMIT, TILT_LIMIT).astype(np.float32).swapaxes(0, 1)
        entries = self._frequencies.shape[-1]
        found = np.empty((*tilts.shape[:2], row_size(entries)), np.uint32)
        found[..., 0], found[..., entries:] = 0, TOTAL
        step = -(-_BLOCK // len(tokens))
        for first in range(0, len(found), step):
            places = slice(end + first, min(end + first + step, part.stop))
            masses = self._masses(tilts[first : first + step], group, places)
            _round(masses, found[first : first + step, :, 1:entries])
        return found

    def _masses(self, tilts: NDArray[np.float32], group: int, places: slice) -> NDArray[np.uint32]:
        """Masses `[n, N, K]` by tilts `[n, N, 2 D]`; each row sums to `2**15` or more, and to `2**31` at most."""
        scores = np.matmul(tilts, self._forms[group, places])
        np.subtract(scores.max(-1, keepdims=True), scores, out=scores)
        masses: NDArray[np.uint32] = np.take(_POWERS, scores.astype(np.intp), mode="clip")
        masses *= self._frequencies[group, places, None]
        return masses


def _round(masses: NDArray[np.uint32], starts: NDArray[np.uint32]) -> None:
    """Write the cumulative frequencies `[n, N, K - 1]` of masses `[n, N, K]`, without the 0 and `2**16` at the ends."""
    entries = masses.shape[-1]
    below = np.cumsum(masses, -1, np.uint32, out=masses)
    bits = np.frexp(below[..., -1:].astype(np.float64))[1]  # of a whole number, exactly
    below >>= np.maximum(bits - _MASS_BITS, 0).astype(np.uint32)
    share = np.uint32(TOTAL - entries << _SHARE_BITS) // below[..., -1:]
    np.multiply(below[..., :-1], share, out=starts)
    starts >>= np.uint32(_SHARE_BITS)
    starts += np.arange(1, entries, dtype=np.uint32)
