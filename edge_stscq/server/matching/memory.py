"""Index of a model's stored faces in memory, searched exactly.

A search is one matrix product over all vectors (`vectors`), so its answers are exact. All faces are held, or the newest
`capacity`, where an older one makes room for each that comes beyond. A face of the released model takes about 1.1 KB
with its name; memory is taken up as they come. Nothing is kept on the disk.
"""

import threading
from collections.abc import Sequence

import numpy as np

from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.server.matching.blocks import IndexBlocks
from edge_stscq.server.matching.vectors import FaceVectors, SearchHit
from edge_stscq.server.storage.face_store import Change
from edge_stscq.stream.face import CodedFace


class FaceIndex:
    """Empty at first; safe to call from many threads.

    Args:
        model: whose faces it holds.
        capacity: most faces held, at least 1; None holds all.

    Attributes:
        revision: of the last change that was added.
    """

    def __init__(self, model: CatalogEntry, capacity: int | None = None) -> None:
        self._vectors, self._capacity, self._lock = FaceVectors(model), capacity, threading.Lock()
        self._blocks = IndexBlocks({prefix: basis.shape[1] for prefix, basis in self._vectors.bases.items()})
        self._devices: dict[str, int] = {}
        self._ids: list[str] = []
        self._slots: dict[str, int] = {}
        self._oldest = self.revision = 0

    def __len__(self) -> int:
        """Faces that can be found."""
        return len(self._ids)

    def count(self, device: str | None) -> int:
        """Faces that can be found of one device, or of all."""
        with self._lock:
            held = len(self._ids)
            return held if device is None else self._blocks.count(held, self._devices.get(device, -1))

    def add(self, changes: Sequence[Change]) -> None:
        """Take in what came, grew or went, in the order of its revisions; faces of other models are passed over."""
        taken = self._vectors.take(changes)
        with self._lock:
            for face_id in taken.gone & self._slots.keys():
                self._remove(face_id)
            for device in {face.device for face in taken.faces}:
                self._devices.setdefault(device, len(self._devices))
            numbers = np.array([self._devices[face.device] for face in taken.faces], np.int32)
            slots = np.array([self._slot(face.id) for face in taken.faces], np.intp)
            self._blocks.put(slots, taken.layers, numbers, taken.vectors)
            if changes:
                self.revision = changes[-1].revision

    def _slot(self, face_id: str) -> int:
        """The face's place: its own, a free one, or that of the face which came first of all."""
        slot = self._slots.get(face_id)
        if slot is not None:
            return slot
        if self._capacity is None or len(self._ids) < self._capacity:
            slot = len(self._ids)
            self._ids.append(face_id)
        else:
            slot, self._oldest = self._oldest, (self._oldest + 1) % self._capacity
            del self._slots[self._ids[slot]]
            self._ids[slot] = face_id
        self._slots[face_id] = slot
        return slot

    def _remove(self, face_id: str) -> None:
        """Overwrite a face, and put the last one in its place."""
        slot, last = self._slots.pop(face_id), len(self._ids) - 1
        moved = self._ids.pop()
        if slot != last:
            self._ids[slot], self._slots[moved] = moved, slot
        self._blocks.move(last, slot)
        self._oldest %= max(len(self._ids), 1)

    def search(
        self, face: CodedFace, limit: int, device: str | None = None, min_cosine: float = -1.0
    ) -> list[SearchHit]:
        """As `MatchIndex` says."""
        query, wanted = self._vectors.query(face), None if device is None else self._devices.get(device, -1)
        with self._lock:
            best = self._blocks.best(
                len(self._ids), query.prefix, query.vector, query.density, limit, wanted, min_cosine
            )
            return [SearchHit(self._ids[slot], cosine, score) for slot, cosine, score in best]
