"""Rows of an index, in blocks: it grows without being copied, and a search stays in the processor's cache.

A row is the vector of a face in the coordinates of its layers, how near it is to the cohort, its device and how many
layers it has. Vectors that can only lie in a subspace, as those of a basic layer do, are held in its coordinates: fewer
numbers, the same products.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 16
"""Rows of a block."""


class _Block:
    """Empty rows."""

    def __init__(self, dimensions: Mapping[int, int]) -> None:
        self.vectors = {prefix: np.zeros((BLOCK, size), np.float32) for prefix, size in dimensions.items()}
        self.halves = {prefix: np.zeros(BLOCK, np.float32) for prefix in dimensions}  # of densities
        self.layers = np.zeros(BLOCK, np.uint8)
        self.devices = np.zeros(BLOCK, np.int32)

    @property
    def columns(self) -> list[NDArray[np.generic]]:
        return [*self.vectors.values(), *self.halves.values(), self.layers, self.devices]


class IndexBlocks:
    """Rows `0 .. n`, numbered by whoever uses them. Not for several threads at once.

    Args:
        dimensions: numbers in a vector, by the prefix of layers that it is of.
    """

    def __init__(self, dimensions: Mapping[int, int]) -> None:
        self._dimensions = dict(dimensions)
        self._blocks: list[_Block] = []

    def put(
        self, rows: NDArray[np.intp], layers: NDArray[np.uint8], devices: NDArray[np.int32],
        vectors: Mapping[int, tuple[NDArray[np.float32], NDArray[np.float32]]],
    ) -> None:  # fmt: skip
        """Write rows, new ones behind the last or earlier ones; of one that is given twice, the later holds.

        What a row has of prefixes beyond its layers stays as it is.

        Args:
            vectors: by prefix, vectors and densities of those among the rows that have its layers.
        """
        blocks = rows // BLOCK
        while len(self._blocks) <= blocks.max(initial=-1):
            self._blocks.append(_Block(self._dimensions))
        for number in np.unique(blocks):
            block, own = self._blocks[number], blocks == number
            at = rows[own] % BLOCK
            block.layers[at], block.devices[at] = layers[own], devices[own]
            for prefix, (found, densities) in vectors.items():
                having = layers >= prefix
                at, of_block = rows[own & having] % BLOCK, own[having]
                block.vectors[prefix][at] = found[of_block]
                block.halves[prefix][at] = densities[of_block] * np.float32(0.5)

    def move(self, source: int, target: int) -> None:
        """Put one row in the place of another, and zeros in its own."""
        from_block, into = self._blocks[source // BLOCK], self._blocks[target // BLOCK]
        for old, new in zip(from_block.columns, into.columns, strict=True):
            new[target % BLOCK] = old[source % BLOCK]
            old[source % BLOCK] = np.zeros((), old.dtype)

    def count(self, held: int, device: int) -> int:
        """Rows of a device among the first `held`."""
        return sum(int((block.devices[: held - start] == device).sum()) for start, block in self._parts(held))

    def best(
        self, held: int, prefix: int, query: NDArray[np.float32], density: float, limit: int, device: int | None,
        min_cosine: float,
    ) -> list[tuple[int, float, float]]:  # fmt: skip
        """Row, cosine and score of the best, best first and earlier rows before later of the same score.

        Args:
            held: rows in use.
            query: unit vector in the coordinates of `prefix`.
            density: of the face it is of.
            limit: most rows.
            device: only rows of it; None is all.
            min_cosine: only rows at least so much alike.
        """
        rows, cosines, scores = np.empty(0, np.intp), np.empty(0, np.float32), np.empty(0, np.float32)
        floor = np.float32(-np.inf)  # score of the last that would be among the best so far
        for start, block in self._parts(held):
            end = min(held - start, BLOCK)
            alike = block.vectors[prefix][:end] @ query
            judged = alike - block.halves[prefix][:end]
            near = np.flatnonzero(judged >= floor)
            wanted = (block.layers[near] >= prefix) & (alike[near] >= min_cosine)
            if device is not None:
                wanted &= block.devices[near] == device
            near = near[wanted]
            rows, cosines = np.concatenate([rows, start + near]), np.concatenate([cosines, alike[near]])
            scores = np.concatenate([scores, judged[near]])
            if len(scores) >= limit:
                floor = np.partition(scores, -limit)[-limit]
                kept = scores >= floor
                rows, cosines, scores = rows[kept], cosines[kept], scores[kept]
        order = np.lexsort((rows, -scores))[:limit]
        return [
            (int(rows[at]), min(max(float(cosines[at]), -1.0), 1.0), float(scores[at]) - density / 2) for at in order
        ]

    def _parts(self, held: int) -> Sequence[tuple[int, _Block]]:
        """Blocks in use, each with the number of its first row."""
        used = -(-held // BLOCK)
        return [(number * BLOCK, block) for number, block in enumerate(self._blocks[:used])]
