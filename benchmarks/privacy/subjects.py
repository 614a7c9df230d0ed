"""The schemes under attack, one that protects nothing among them, and templates of many faces at once."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_stscq.config.codec import EMBEDDING
from edge_stscq.privacy import PolyProtect, RecordKey, RotatedGroups, Scheme, SlerpFace


class Unprotected(Scheme[None]):
    """The embedding itself, as a store without protection holds it."""

    number = 255
    name = "unprotected"
    content_bytes = 4 * EMBEDDING

    def parameters(self, key: RecordKey) -> None:
        return None

    def protect(self, unit: NDArray[np.float64], parameters: None) -> NDArray[np.float32]:
        return unit.astype(np.float32)

    def pack(self, values: NDArray[np.float32]) -> bytes:
        return values.astype("<f4").tobytes()

    def unpack(self, content: bytes) -> NDArray[np.float32]:
        return np.frombuffer(content, "<f4").astype(np.float32)

    def row(self, values: NDArray[np.float32], parameters: None) -> NDArray[np.float32]:
        return values

    def scores(self, rows: NDArray[np.float32], unit: NDArray[np.float64]) -> NDArray[np.float32]:
        return rows @ unit.astype(np.float32)

    def similarity(self, first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.einsum("nd,nd->n", first, second)


SUBJECTS: dict[str, Scheme[Any]] = {
    "unprotected": Unprotected(), "SlerpFace as published": SlerpFace(), "rotated groups (ours)": RotatedGroups(),
    "PolyProtect, overlap 4": PolyProtect(4), "PolyProtect, overlap 2": PolyProtect(2),
}  # fmt: skip


def fresh_keys(label: str, count: int) -> list[RecordKey]:
    """Keys that a benchmark draws again when it is repeated, others for every label."""
    return [RecordKey(hashlib.sha256(f"{label} {number}".encode()).digest()) for number in range(count)]


def stored(scheme: Scheme[Any], embeddings: NDArray[np.float32], keys: Sequence[RecordKey]) -> NDArray[np.float32]:
    """Values `[N, V]` that templates of these embeddings hold, as whoever reads the store sees them."""
    return np.stack([_stored(scheme, unit, key) for unit, key in zip(embeddings, keys, strict=True)])


def _stored(scheme: Scheme[Any], unit: NDArray[np.float32], key: RecordKey) -> NDArray[np.float32]:
    return scheme.checked(scheme.enroll(unit, key), key)


def rows(scheme: Scheme[Any], values: NDArray[np.float32], keys: Iterable[RecordKey]) -> NDArray[np.float32]:
    """Rows of a gallery of stored values `[N, V]`, each expanded with a key, be it its own or another's."""
    made = [scheme.row(value, scheme.parameters(key)) for value, key in zip(values, keys, strict=True)]
    return np.stack(made)


def pair_scores(
    scheme: Scheme[Any], enrolled: NDArray[np.float32], keys: Sequence[RecordKey], probes: NDArray[np.float32],
    probe_keys: Sequence[RecordKey],
) -> NDArray[np.float32]:  # fmt: skip
    """Scores `[N]` of probes against templates, pair by pair; a probe is brought under its own key."""
    expanded = rows(scheme, stored(scheme, enrolled, keys), probe_keys)
    scores = [scheme.scores(row[None], unit)[0] for row, unit in zip(expanded, probes.astype(np.float64), strict=True)]
    return np.array(scores, np.float32)
