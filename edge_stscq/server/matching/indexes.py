"""Indexes of the stored faces, one for each model, that follow the store.

Models are not compared with each other.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.server.matching.memory import FaceIndex
from edge_stscq.server.storage.change_feed import ChangeFeed
from edge_stscq.server.storage.face_store import Change

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
"""Seconds after which a store that failed is read again."""


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
