"""Answers in their canonical form, and the comparison of two places'.

An answer is one row, group and tokens, int32 little-endian; a file holds the rows of one shard, crop by crop. The
SHA-256 over the files of all shards, in order, stands for everything that a place answered.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_stscq.errors import EdgeError

DTYPE = np.dtype("<i4")


def pack(groups: NDArray[np.integer], tokens: NDArray[np.integer]) -> bytes:
    """Canonical bytes of groups [N] and tokens [N, T]."""
    return np.concatenate([groups[:, None], tokens], axis=1).astype(DTYPE).tobytes()


def unpack(data: bytes, tokens: int) -> NDArray[np.int32]:
    """Answers int32 [N, 1 + T] from their canonical bytes."""
    return np.frombuffer(data, DTYPE).reshape(-1, 1 + tokens).astype(np.int32)


def read(path: Path, count: int, tokens: int) -> NDArray[np.int32]:
    """Answers to `count` crops, int32 [N, 1 + T].

    Raises:
        EdgeError: the file does not hold that many.
    """
    data = path.read_bytes()
    if len(data) != count * (1 + tokens) * DTYPE.itemsize:
        raise EdgeError(f"{path} holds {len(data)} bytes, not {count} answers; remove it and run again")
    return unpack(data, tokens)


def digest(shards: Sequence[NDArray[np.int32]]) -> str:
    """SHA-256, in hexadecimal, over all shards in order."""
    found = hashlib.sha256()
    for rows in shards:
        found.update(rows.astype(DTYPE).tobytes())
    return found.hexdigest()


@dataclass(frozen=True)
class Comparison:
    """Agreement of one place's answers with another's.

    Attributes:
        groups_equal: crops, of `crops`, whose group is the same.
        tokens_equal: tokens, of `tokens`, that are the same and belong to the same group.
        differing: positions of the shards in which anything differs.
        first: the first crop that differs, counted over all shards; None where none does.
    """

    crops: int
    groups_equal: int
    tokens: int
    tokens_equal: int
    differing: tuple[int, ...]
    first: int | None


def compare(found: Sequence[NDArray[np.int32]], expected: Sequence[NDArray[np.int32]]) -> Comparison:
    """Compare shard by shard.

    Raises:
        EdgeError: the two are not answers to the same number of crops and of the same length.
    """
    if [rows.shape for rows in found] != [rows.shape for rows in expected] or not found:
        raise EdgeError("the two places did not answer the same crops; run both on the same shards")
    ours, theirs = np.concatenate(found), np.concatenate(expected)
    same = ours == theirs
    together = same[:, :1] & same[:, 1:]
    wrong = np.flatnonzero(~same.all(axis=1))
    differing = tuple(i for i, (a, b) in enumerate(zip(found, expected, strict=True)) if not np.array_equal(a, b))
    return Comparison(
        crops=len(ours),
        groups_equal=int(same[:, 0].sum()),
        tokens=together.size,
        tokens_equal=int(together.sum()),
        differing=differing,
        first=int(wrong[0]) if len(wrong) else None,
    )
