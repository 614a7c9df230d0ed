"""Rotated groups: SlerpFace with its flaws mended, in 64 bytes.

A group of the embedding is made a unit vector, turned by a random rotation of its own instead of towards a key,
loses the same number of dimensions as every other, and is rounded. A unit vector under a uniform rotation is uniform on
the sphere whatever it was, so a template under a fresh key says nothing about the face to whoever lacks the key.
Whoever has it turns the groups back.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_stscq.privacy.draws import gaussian
from edge_stscq.privacy.keys import RecordKey
from edge_stscq.privacy.scheme import Scheme
from edge_stscq.privacy.slerpface import DIMS, GROUPS, unit_groups


class Rotations(NamedTuple):
    """Rows of uniform (Haar) rotations of the groups, as many as are kept: float64 `[8, K, 16]`."""

    kept: NDArray[np.float64]


class RotatedGroups(Scheme[Rotations]):
    """Groups under random rotations, some dimensions dropped, rounded.

    Args:
        kept: dimensions of each group of 16 that are stored.
        bits: of each.
    """

    number = 2
    name = "rotated"

    def __init__(self, kept: int = 12, bits: int = 4) -> None:
        self.kept, self.bits = kept, bits
        self.content_bytes = kept * bits * GROUPS // 8
        self._step = 6 / kept**0.5 / 2**bits  # of a uniform code over three deviations to each side

    def parameters(self, key: RecordKey) -> Rotations:
        # The rows of a Haar matrix are as random in one order as in another, so the first K of them are a random K.
        drawn = gaussian(key, "rotated rotations", (GROUPS, DIMS, self.kept))
        matrix, triangle = np.linalg.qr(drawn)
        signs = np.sign(np.einsum("gkk->gk", triangle))  # makes the factorization unique, and so Haar (Mezzadri 2007)
        return Rotations(np.swapaxes(matrix * signs[:, None], 1, 2))

    def protect(self, unit: NDArray[np.float64], parameters: Rotations) -> NDArray[np.float32]:
        turned = np.einsum("gkd,gd->gk", parameters.kept, unit_groups(unit.reshape(GROUPS, DIMS)))
        return unit_groups(turned).astype(np.float32).ravel()

    def pack(self, values: NDArray[np.float32]) -> bytes:
        half = 2 ** (self.bits - 1)
        codes = np.clip(np.floor(values / self._step), -half, half - 1).astype(np.int64) + half
        return np.packbits(codes[:, None] >> np.arange(self.bits)[::-1] & 1).tobytes()

    def unpack(self, content: bytes) -> NDArray[np.float32]:
        bits = np.unpackbits(np.frombuffer(content, np.uint8)).reshape(-1, self.bits)
        codes = bits @ (1 << np.arange(self.bits)[::-1])
        values: NDArray[np.float32] = ((codes - 2 ** (self.bits - 1) + 0.5) * self._step).astype(np.float32)
        return values

    def row(self, values: NDArray[np.float32], parameters: Rotations) -> NDArray[np.float32]:
        turned_back = np.einsum("gkd,gk->gd", parameters.kept, values.reshape(GROUPS, self.kept))
        scale = (GROUPS * self.kept / DIMS) ** 0.5  # an embedding scores about 1 against its own template
        row: NDArray[np.float32] = (turned_back / scale).astype(np.float32).ravel()
        return row

    def scores(self, rows: NDArray[np.float32], unit: NDArray[np.float64]) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = rows @ unit.astype(np.float32)
        return scores

    def similarity(self, first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
        cosines: NDArray[np.float32] = np.einsum("nd,nd->n", first, second) / np.float32(GROUPS)
        return cosines
