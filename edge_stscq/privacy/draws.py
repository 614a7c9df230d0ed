"""Random numbers drawn from a record key: the same on every machine and with every version of numpy."""

import numpy as np
from numpy.typing import NDArray

from edge_stscq.privacy.keys import RecordKey


def words(key: RecordKey, purpose: str, count: int) -> NDArray[np.uint32]:
    """Uniform integers uint32 `[count]`."""
    return np.frombuffer(key.stream(purpose, 4 * count), "<u4").astype(np.uint32, copy=False)


def gaussian(key: RecordKey, purpose: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Standard normal numbers of an even count, by Box and Muller (1958)."""
    count = int(np.prod(shape))
    first, second = (words(key, purpose, count) / 2.0**32).reshape(2, count // 2)
    radius = np.sqrt(-2 * np.log(1 - first))  # 1 - u is over 0
    angle = 2 * np.pi * second
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)]).reshape(shape)


def orders(key: RecordKey, purpose: str, rows: int, count: int) -> NDArray[np.intp]:
    """Random orders of 0 to count - 1, one a row, `[rows, count]`."""
    return np.argsort(words(key, purpose, rows * count).reshape(rows, count), axis=1, kind="stable")
