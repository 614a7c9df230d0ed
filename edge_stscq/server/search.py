"""Index of the stored faces' embeddings, one for each model, in memory, searched exactly.

Models are not compared with each other.
Identity is read from tokens, without decoding a picture: a row is the unit vector of a face, and a search is one
matrix product over all of them, so its answers are exact. Layers that bring no identity tokens do not change an
embedding, so there are vectors for each prefix of layers that does: face64 has two, 64 numbers of the basic layer and
128 of basic and middle.

All faces are held, or the newest `capacity`, where an older one makes room for each that comes beyond. A face of the
released model takes about 1.1 KB with its name; memory is taken up as they come. Nothing is kept on the disk.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_stscq.errors import FrameError
from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.server.index_blocks import IndexBlocks
from edge_stscq.server.storage.change_feed import ChangeFeed
from edge_stscq.server.storage.face_store import Change, ErasedFace, StoredFace
from edge_stscq.stream.envelope import WireFrame
from edge_stscq.stream.face import CodedFace

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
"""Seconds after which a store that failed is read again."""


class SearchHit(NamedTuple):
    """A face, its cosine to the one searched for, -1 to 1, and the score that it is judged by (`bundle.match_rule`)."""

    id: str
    cosine: float
    score: float


def find_similar(
    faces: Iterable[StoredFace], entry: CatalogEntry, example: CodedFace, layers: int, min_cosine: float
) -> Iterator[tuple[StoredFace, float]]:
    """Faces of the example's model that are at least so much alike by their first layers, each with its cosine.

    Faces with fewer layers are compared by the basic layer; damaged ones are passed over.
    """
    index = FaceIndex(entry, 1)
    wanted = {count: index.embed([example], count)[0] for count in {1, layers}}
    for stored in faces:
        if stored.model != entry.model_id:
            continue
        try:
            face = entry.codec.face(stored.frame())
        except FrameError:
            continue
        count = layers if face.layers >= layers else 1
        cosine = float(index.embed([face], count)[0] @ wanted[count])
        if cosine >= min_cosine:
            yield stored, min(cosine, 1.0)


class FaceIndex:
    """Empty at first; safe to call from many threads.

    Args:
        model: whose faces it holds.
        capacity: most faces held, at least 1; None holds all.

    Attributes:
        revision: of the last change that was added.
    """

    def __init__(self, model: CatalogEntry, capacity: int | None = None) -> None:
        self._codec, self._capacity, self._lock = model.codec, capacity, threading.Lock()
        self._matcher, self._rule = model.matcher, model.rule
        counts = np.cumsum([layer.identity for layer in self._matcher.config.layers])
        self._prefixes = [int(np.searchsorted(counts, count)) + 1 for count in counts]
        self._bases = {prefix: self._matcher.basis(prefix) for prefix in set(self._prefixes)}
        self._blocks = IndexBlocks({prefix: basis.shape[1] for prefix, basis in self._bases.items()})
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

    def embed(self, faces: Sequence[CodedFace], layers: int) -> NDArray[np.float32]:
        """Unit embeddings [N, 128] from the first `layers` layers of faces that have as many."""
        return self._matcher.embed(faces, layers)

    def _density(self, unit: NDArray[np.float32], layers: int) -> NDArray[np.float32]:
        return np.zeros(len(unit), np.float32) if self._rule is None else self._rule.density(unit, layers)

    def add(self, changes: Sequence[Change]) -> None:
        """Take in what came, grew or went, in the order of its revisions; faces of other models are passed over."""
        latest: dict[str, tuple[StoredFace, WireFrame]] = {}
        gone: set[str] = set()
        for stored in changes:
            name = stored.id
            if isinstance(stored, ErasedFace):
                latest.pop(name, None)
                gone.add(name)
                continue
            if stored.model != self._codec.model_id or stored.protected:
                continue
            gone.discard(name)
            try:
                latest[name] = stored, stored.frame()
            except FrameError as error:
                latest.pop(name, None)
                log.error("%s cannot be found by example: %s", name, error)
        names, devices, faces = list[str](), list[str](), list[CodedFace]()
        decoded = self._codec.faces([frame for _, frame in latest.values()])
        for (name, (stored, _)), face in zip(latest.items(), decoded, strict=True):
            if isinstance(face, FrameError):
                log.error("%s cannot be found by example: %s", name, face)
                continue
            names.append(name)
            devices.append(stored.device)
            faces.append(face)
        layers = np.array([face.layers for face in faces], np.uint8)
        vectors: dict[int, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
        for prefix, basis in self._bases.items():
            units = self.embed([face for face in faces if face.layers >= prefix], prefix)
            vectors[prefix] = units @ basis, self._density(units, prefix)
        with self._lock:
            for face_id in gone & self._slots.keys():
                self._remove(face_id)
            for device in set(devices):
                self._devices.setdefault(device, len(self._devices))
            numbers = np.array([self._devices[device] for device in devices], np.int32)
            self._blocks.put(np.array([self._slot(name) for name in names], np.intp), layers, numbers, vectors)
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
        """The faces most like `face`, best first, by all the layers that it has.

        Args:
            face: faces of fewer layers are not compared, unless the missing ones bring no identity tokens.
            limit: most faces.
            device: only faces of this one.
            min_cosine: only faces at least so much alike.
        """
        prefix = self._prefixes[face.layers - 1]
        query = self.embed([face], prefix)
        (own,), wanted = self._density(query, prefix), None if device is None else self._devices.get(device, -1)
        with self._lock:
            best = self._blocks.best(
                len(self._ids), prefix, (query @ self._bases[prefix])[0], float(own), limit, wanted, min_cosine
            )
            return [SearchHit(self._ids[slot], cosine, score) for slot, cosine, score in best]


class FaceIndexes:
    """One index for each model, each of `capacity` faces at most."""

    def __init__(self, models: Iterable[CatalogEntry], capacity: int | None = None) -> None:
        self._of = {model.model_id: FaceIndex(model, capacity) for model in models}

    def __len__(self) -> int:
        """Faces that can be found, of all models."""
        return sum(map(len, self._of.values()))

    @property
    def revision(self) -> int:
        """Of the last change that was added to all of them."""
        return min(index.revision for index in self._of.values())

    def of(self, model_id: bytes) -> FaceIndex:
        """The index of a model."""
        return self._of[model_id]

    def add(self, changes: Sequence[Change]) -> None:
        """Take in changes, in the order of their revisions."""
        for index in self._of.values():
            index.add(changes)


async def follow_changes(index: FaceIndexes, feed: ChangeFeed, capacity: int | None) -> None:
    """Fill the indexes with all faces, or the newest, and keep them up to date; runs until it is cancelled."""
    after = 0 if capacity is None else await feed.start(None, capacity)
    while True:
        try:
            async for faces in feed.changes(max(after, index.revision)):
                await asyncio.to_thread(index.add, faces)
        except Exception as error:
            log.error("the index of faces cannot be kept up to date now: %s", error)
            await asyncio.sleep(RETRY_SECONDS)


@asynccontextmanager
async def following(index: FaceIndexes, feed: ChangeFeed, capacity: int | None) -> AsyncIterator[None]:
    """Run `follow_changes` until the block ends."""
    task = asyncio.create_task(follow_changes(index, feed, capacity), name="index")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
