"""Rows of a gallery that come and go, by name; a row that goes is overwritten."""

from collections.abc import Hashable

import numpy as np
from numpy.typing import NDArray

_LEAST = 64


class GrowingRows:
    """Empty at first; its memory doubles when it is full. For one thread at a time."""

    def __init__(self) -> None:
        self.names: list[str] = []
        """Of the rows, in their order."""
        self._places: dict[str, int] = {}
        self._rows: NDArray[np.float32] = np.empty(0, np.float32)
        self._labels: NDArray[np.int64] = np.zeros(0, np.int64)
        self._numbers: dict[Hashable, int] = {}

    def __len__(self) -> int:
        return len(self.names)

    @property
    def rows(self) -> NDArray[np.float32]:
        """All of them, `[N, ...]`: a view, good until the next change."""
        return self._rows[: len(self.names)]

    @property
    def bytes(self) -> int:
        """Memory of the rows, and of room for more."""
        return self._rows.nbytes + self._labels.nbytes

    def labeled(self, label: Hashable) -> NDArray[np.bool_]:
        """True for each row that was put with this label."""
        mask: NDArray[np.bool_] = self._labels[: len(self.names)] == self._numbers.get(label, -1)
        return mask

    def put(self, name: str, row: NDArray[np.float32], label: Hashable) -> None:
        """Add a row, or put it in the place of the one of this name."""
        place = self._places.setdefault(name, len(self.names))
        if place == len(self.names):
            self.names.append(name)
            if place >= len(self._labels):
                self._grow(row.shape)
        self._rows[place] = row
        self._labels[place] = self._numbers.setdefault(label, len(self._numbers))

    def remove(self, name: str) -> None:
        """Remove a row, if there is one; the last one takes its place, and zeros that of the last."""
        place = self._places.pop(name, None)
        if place is None:
            return
        last, moved = len(self.names) - 1, self.names.pop()
        if place != last:
            self.names[place], self._places[moved] = moved, place
            self._rows[place], self._labels[place] = self._rows[last], self._labels[last]
        self._rows[last] = 0

    def _grow(self, shape: tuple[int, ...]) -> None:
        held, room = len(self._labels), max(_LEAST, 2 * len(self._labels))
        rows, labels = np.zeros((room, *shape), np.float32), np.zeros(room, np.int64)
        if held:
            rows[:held], labels[:held] = self._rows, self._labels
            self._rows.fill(0)
        self._rows, self._labels = rows, labels
