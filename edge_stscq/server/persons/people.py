"""Visits and persons of an application: what routes ask, and the task that groups faces as they come."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress

from fastapi import HTTPException

from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.server.persons.editing import PersonStore
from edge_stscq.server.persons.grouping import Grouper
from edge_stscq.server.settings import ServerSettings
from edge_stscq.server.storage.change_feed import ChangeFeed
from edge_stscq.server.storage.face_store import FaceStore, StoredFace
from edge_stscq.server.storage.sql_face_store import SqlFaceStore

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
"""Seconds after which a store that failed is looked at again."""


class People:
    """Visits and persons of one application.

    Args:
        faces: the stored faces.
        store: visits and persons; None where faces are kept by something that knows none.

    Attributes:
        passed: faces of unknown people that a watch list has let pass, as of the last look.
    """

    def __init__(self, faces: FaceStore, store: PersonStore | None, grouper: Grouper | None) -> None:
        self._faces, self._store, self._grouper, self.passed = faces, store, grouper, 0

    @classmethod
    def of(cls, store: FaceStore, models: Iterable[CatalogEntry], settings: ServerSettings) -> "People":
        """Of a store of faces."""
        if not isinstance(store, SqlFaceStore):
            return cls(store, None, None)
        if not (settings.persons or settings.watch_list):
            return cls(store, PersonStore(store), None)
        return cls(store, PersonStore(store), Grouper(store, models, settings.visit_gap, settings.watch_list))

    @property
    def groups(self) -> bool:
        """True if faces are grouped here."""
        return self._grouper is not None

    @property
    def store(self) -> PersonStore:
        """Raises `HTTPException` 503 where no faces are grouped, or kept by something that knows no visits."""
        if self._store is None:
            raise HTTPException(503, "this server keeps its faces where there are no visits; use SQLite or PostgreSQL")
        if self._grouper is None:
            raise HTTPException(503, "this server groups no faces; start it with --persons")
        return self._store

    @property
    def grouper(self) -> Grouper:
        """Raises `HTTPException` as `store` does."""
        if self._grouper is None:
            raise HTTPException(503, "this server groups no faces; start it with --persons")
        return self._grouper

    def find(self, face_id: str) -> StoredFace | None:
        """The stored face of this name."""
        return self._faces.find(face_id)

    def latest_revision(self) -> int:
        """Of the faces."""
        return self._faces.latest_revision()

    async def follow(self, feed: ChangeFeed) -> None:
        """Group what there is and what comes; runs until it is cancelled."""
        if self._grouper is None or self._store is None:
            return
        failing = False
        while True:
            try:
                while await asyncio.to_thread(self._grouper.step):
                    pass
                found = await asyncio.to_thread(self._store.changes, None)
                self.passed, failing = found.passed, False
                async for _ in feed.changes(found.mark):
                    break
            except Exception as error:
                if not failing:
                    log.exception("faces cannot be grouped now: %s", error)
                failing = True
                await asyncio.sleep(RETRY_SECONDS)


@asynccontextmanager
async def grouping(people: People, feed: ChangeFeed) -> AsyncIterator[None]:
    """Run `People.follow` until the block ends."""
    task = asyncio.create_task(people.follow(feed), name="grouping")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
