"""SlerpFace (arXiv 2407.03043) as published, on the codec's embedding: kept for comparison, not for use.

What is stored tells more than it should (docs/privacy.md): the norms of the groups are the attention map, which no key
changes, and a slerp leaves every group closer to the face than chance. The published network learns the attention;
here it is each group's share of the embedding's energy, since a learned one told people no better apart.
"""

from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_stscq.config.codec import EMBEDDING
from edge_stscq.privacy.draws import gaussian, words
from edge_stscq.privacy.keys import RecordKey
from edge_stscq.privacy.scheme import Scheme

DIMS = 16
GROUPS = EMBEDDING // DIMS
REACH = 0.9
"""A group goes this much of the way to its key, less its attention."""
FEW, MANY = 4, 12
"""Draws of a dimension to drop, with replacement: of groups with attention at the median or over, and below."""
_LEAST = 1e-9


class SlerpParameters(NamedTuple):
    """Keys of the groups, unit vectors float64 `[8, 16]`, and the dimensions drawn to be dropped, `[8, 12]`."""

    keys: NDArray[np.float64]
    drops: NDArray[np.intp]


class SlerpFace(Scheme[SlerpParameters]):
    """Groups turned towards a key, some dimensions dropped, weighted by attention; 528 bytes."""

    number = 1
    name = "slerpface"
    content_bytes = 4 * EMBEDDING

    def parameters(self, key: RecordKey) -> SlerpParameters:
        drops = words(key, "slerpface drops", GROUPS * MANY).reshape(GROUPS, MANY) % DIMS
        return SlerpParameters(unit_groups(gaussian(key, "slerpface keys", (GROUPS, DIMS))), drops.astype(np.intp))

    def protect(self, unit: NDArray[np.float64], parameters: SlerpParameters) -> NDArray[np.float32]:
        weights = self.attention(unit)
        turned = slerp(unit_groups(unit.reshape(GROUPS, DIMS)), parameters.keys, self.way(unit))
        for group, drops in enumerate(parameters.drops):
            turned[group, drops[: FEW if weights[group] >= np.median(weights) else MANY]] = 0
        return (unit_groups(turned) * weights[:, None]).astype(np.float32).ravel()

    def attention(self, unit: NDArray[np.float64]) -> NDArray[np.float64]:
        """Weights of the groups `[8]` of an embedding, of sum 1."""
        energies: NDArray[np.float64] = np.square(unit).reshape(GROUPS, DIMS).sum(1)
        return energies

    def way(self, unit: NDArray[np.float64]) -> NDArray[np.float64]:
        """Parts of the way to their keys `[8]` that the groups of an embedding go."""
        return REACH - self.attention(unit)

    def pack(self, values: NDArray[np.float32]) -> bytes:
        return values.astype("<f4").tobytes()

    def unpack(self, content: bytes) -> NDArray[np.float32]:
        return np.frombuffer(content, "<f4").astype(np.float32)

    def row(self, values: NDArray[np.float32], parameters: SlerpParameters) -> NDArray[np.float32]:
        return np.stack([values, parameters.keys.ravel().astype(np.float32)])

    def scores(self, rows: NDArray[np.float32], unit: NDArray[np.float64]) -> NDArray[np.float32]:
        stored, keys = (rows[:, side].reshape(-1, GROUPS, DIMS) for side in (0, 1))
        groups = unit_groups(unit.reshape(GROUPS, DIMS)).astype(np.float32)
        turned = slerp(groups, keys, self.way(unit).astype(np.float32))
        turned *= stored != 0
        inner = np.einsum("ngd,ngd->ng", turned, stored)
        norms = np.sqrt(np.einsum("ngd,ngd->ng", turned, turned))
        scores: NDArray[np.float32] = (inner / np.maximum(norms, np.float32(_LEAST))).sum(1, dtype=np.float32)
        return scores

    def similarity(self, first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
        query = unit_groups((first * (second != 0)).reshape(-1, GROUPS, DIMS))
        scores: NDArray[np.float32] = np.einsum("ngd,ngd->n", query, second.reshape(-1, GROUPS, DIMS))
        return scores


Real = TypeVar("Real", np.float32, np.float64)


def slerp(start: NDArray[Real], end: NDArray[Real], way: NDArray[Real]) -> NDArray[Real]:
    """Spherical interpolation of unit groups `[..., G, D]`; `way` `[..., G]` from 0 (start) to 1 (end)."""
    cosine = np.clip((start * end).sum(-1, keepdims=True), -1 + _LEAST, 1 - _LEAST)
    angle, way = np.arccos(cosine), np.maximum(way, 0)[..., None]
    sine = np.sqrt(1 - cosine * cosine)
    turned: NDArray[Real] = np.sin((1 - way) * angle) / sine * start + np.sin(way * angle) / sine * end
    return turned


def unit_groups(groups: NDArray[Real]) -> NDArray[Real]:
    """Groups `[..., G, D]` of norm 1; one of zeros stays one of zeros."""
    norms = np.sqrt(np.einsum("...d,...d->...", groups, groups))[..., None]
    unit: NDArray[Real] = groups / np.maximum(norms, _LEAST).astype(groups.dtype)
    return unit
