"""Change feed of the store: one poller an application, any number of followers.

What this application stores, the store tells by itself, and nothing of it is read back: where the faces it has stored
follow the newest change seen without a gap in their revisions, they are the next changes. Several servers may share one
store, and what another one accepted shows only there, so the store is polled, too: every `POLL_SECONDS`, and at once
where there is a gap, though `MIN_POLL_SECONDS` apart at least. The latest changes stay in memory; a follower is no more
than the revision it has reached. One that keeps up is served from memory, one that lags or resumes reads the store at
its own pace, and none of them has a queue that could grow.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Sequence
from itertools import takewhile

from edge_stscq.server.storage.face_store import Change, ErasedFace, FaceStore, StoredFace

log = logging.getLogger(__name__)

POLL_SECONDS = 0.25
"""Seconds between two looks at the store."""
MIN_POLL_SECONDS = 0.05
"""Seconds from a look that found something to the next, so that a busy server takes changes in by the dozen."""
PAGE = 500
"""Most faces that are read from the store at once."""
RECENT = 8192
"""Changes kept in memory: what comes while a follower is at work."""


class ChangeFeed:
    """Follows `store` while it is entered.

    Attributes:
        revision: of the newest change seen.
    """

    def __init__(self, store: FaceStore) -> None:
        self._store = store
        self._recent: deque[Sequence[Change]] = deque()
        self._complete_after = self.revision = 0
        self._changed, self._notified = asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "ChangeFeed":
        loop = asyncio.get_running_loop()
        self._store.on_stored = lambda last, stored: loop.call_soon_threadsafe(self._take_stored, last, stored)
        self._complete_after = self.revision = await asyncio.to_thread(self._store.latest_revision)
        self._task = asyncio.create_task(self._poll(), name="feed")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._store.on_stored = lambda last, stored: None
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def notify(self) -> None:
        """Look at the store now: something has changed."""
        self._notified.set()

    def _take_stored(self, last: int, stored: Sequence[StoredFace]) -> None:
        """Take what this application has stored, the revision before which was `last`."""
        if last == self.revision:
            self._take(stored)
        elif last > self.revision:
            self.notify()  # others wrote, too

    async def start(self, after: int | None, last: int) -> int:
        """The revision at which a follower begins: `after`, or `last` changes before the newest if it is None."""
        newest = await asyncio.to_thread(self._store.latest_revision)
        return min(after, newest) if after is not None else max(newest - last, 0)

    async def changes(self, after: int, device: str | None = None) -> AsyncIterator[list[Change]]:
        """All that came, grew or went after revision `after`, of one device if it is given, in order, without end."""
        while True:
            faces, after = await self._since(after, device)
            if faces:
                yield faces
            elif after >= self.revision:
                await self._changed.wait()

    async def _since(self, after: int, device: str | None) -> tuple[list[Change], int]:
        """Changes after revision `after`, and the revision up to which that is all of them."""
        newest = self.revision
        if after >= self._complete_after:
            latest: dict[tuple[bytes, int], Change] = {}
            for part in takewhile(lambda part: part[-1].revision > after, reversed(self._recent)):
                for face in reversed(part):
                    if face.revision > after and device in (None, face.device):
                        latest.setdefault((face.stream, face.sequence), face)
            return list(latest.values())[::-1], newest
        faces = await asyncio.to_thread(self._store.changes, after, PAGE, device)
        return faces, faces[-1].revision if len(faces) == PAGE else max([newest, *(face.revision for face in faces)])

    async def _poll(self) -> None:
        failing = False
        while True:
            self._notified.clear()
            faces: list[Change] = []
            try:
                faces = await asyncio.to_thread(self._store.changes, self.revision, PAGE)
                failing = False
            except Exception as error:
                if not failing:
                    log.error("the store cannot be followed now: %s", error)
                failing = True
            self._take([face for face in faces if face.revision > self.revision])  # the store told of others meanwhile
            if len(faces) < PAGE:
                if faces:
                    await asyncio.sleep(MIN_POLL_SECONDS)
                try:
                    async with asyncio.timeout(POLL_SECONDS):
                        await self._notified.wait()
                except TimeoutError:
                    pass

    def _take(self, changes: Sequence[Change]) -> None:
        """Append changes that follow the newest one without a gap, and wake the followers."""
        if not changes:
            return
        if gone := {face.id for face in changes if isinstance(face, ErasedFace)}:
            kept = ([face for face in part if face.id not in gone] for part in self._recent)
            self._recent = deque(part for part in kept if part)
        self._recent.append(changes)
        self.revision = changes[-1].revision
        while sum(map(len, self._recent)) > RECENT + len(self._recent[0]):
            self._complete_after = self._recent.popleft()[-1].revision
        woken, self._changed = self._changed, asyncio.Event()
        woken.set()
