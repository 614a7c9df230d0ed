"""Visits and persons of an application: what routes ask, and the task that groups faces as they come."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

from fastapi import HTTPException

from edge_stscq.events.publisher import Publisher
from edge_stscq.server.api.schemas import moment
from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.server.persons.editing import PersonStore
from edge_stscq.server.persons.events import EventFeed, VisitEvent
from edge_stscq.server.persons.grouping import Grouper
from edge_stscq.server.settings import ServerSettings
from edge_stscq.server.storage.change_feed import ChangeFeed
from edge_stscq.server.storage.face_store import FaceStore, StoredFace
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from edge_stscq.stream.envelope import WireFrame

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
"""Seconds after which a store that failed is looked at again."""


class People:
    """Visits and persons of one application.

    Args:
        faces: the stored faces.
        store: visits and persons; None where faces are kept by something that knows none.
        publishers: other programs that are told of visits.

    Attributes:
        passed: faces of unknown people that a watch list has let pass, as of the last look.
    """

    def __init__(
        self, faces: FaceStore, store: PersonStore | None, grouper: Grouper | None, publishers: Sequence[Publisher] = ()
    ) -> None:
        self._faces, self._store, self._grouper, self._publishers = faces, store, grouper, publishers
        self.passed, self._events = 0, EventFeed()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._happened = asyncio.Event()

    @classmethod
    def of(
        cls, store: FaceStore, models: Iterable[CatalogEntry], settings: ServerSettings,
        publishers: Sequence[Publisher] = (),
    ) -> "People":  # fmt: skip
        """Of a store of faces."""
        if not isinstance(store, SqlFaceStore):
            return cls(store, None, None)
        if not (settings.persons or settings.watch_list):
            return cls(store, PersonStore(store), None)
        grouper = Grouper(store, models, settings.visit_gap, settings.watch_list)
        return cls(store, PersonStore(store), grouper, publishers)

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

    @property
    def events(self) -> EventFeed:
        """Events for followers. Raises `HTTPException` 503 where no faces are grouped."""
        if self._grouper is None:
            raise HTTPException(503, "this server groups no faces; start it with --persons")
        return self._events

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
                    self._happened.set()
                found = await asyncio.to_thread(self._store.changes, None)
                self.passed, failing = found.passed, False
                async for _ in feed.changes(found.mark):
                    break
            except Exception as error:
                if not failing:
                    log.exception("faces cannot be grouped now: %s", error)
                failing = True
                await asyncio.sleep(RETRY_SECONDS)

    def let_pass(self, frames: Sequence[WireFrame]) -> list[bool]:
        """True for each face that a watch list has no use for, so that nothing of it is to be stored; from any thread.

        Raises:
            StoreError: the store cannot be used.
        """
        found = self.grouper.let_pass(frames)
        if any(found):
            self.passed += sum(found)
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._happened.set)
        return found

    async def relay(self) -> None:
        """Tell of what happened; runs until it is cancelled."""
        if self._grouper is None or self._store is None:
            return
        self._loop = asyncio.get_running_loop()
        while True:
            await self._happened.wait()
            self._happened.clear()
            try:
                self._events.put(await asyncio.to_thread(self._publish, self._store, self._grouper))
            except Exception as error:
                log.exception("events cannot be told now: %s", error)

    def _publish(self, store: PersonStore, grouper: Grouper) -> list[VisitEvent]:
        """Tell other programs what this server grouped; all events, with names."""
        happened = grouper.happened()
        owners = store.owners(one for found in happened for one in (found.person, found.enrolled) if one is not None)
        names = {one: owner.name for one, owner in owners.items()}
        events = [
            VisitEvent(
                event=one.event, visit=one.visit, person=one.person, name=names.get(one.person or 0),
                enrolled=one.enrolled, enrolled_name=names.get(one.enrolled or 0), device=one.device, track=one.track,
                began=moment(one.began), face=one.face,
            )
            for one in happened
        ]  # fmt: skip
        for event, one in zip(events, happened, strict=True):
            for publisher in self._publishers if one.own else ():
                publisher.publish(event.model_dump(mode="json"))
        return events


@asynccontextmanager
async def grouping(people: People, feed: ChangeFeed, publishers: Sequence[Publisher]) -> AsyncIterator[None]:
    """Group and tell of it, by these publishers too, until the block ends."""
    for publisher in publishers:
        publisher.start()
    tasks = [
        asyncio.create_task(people.follow(feed), name="grouping"), asyncio.create_task(people.relay(), name="events"),
    ]  # fmt: skip
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(asyncio.to_thread(publisher.close) for publisher in publishers))
