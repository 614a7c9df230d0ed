"""Change feed of the store: one poller an application, any number of followers.

Several servers may share one store, and what another one accepted shows only there, so the store is polled: every
`POLL_SECONDS`, and at once after this server has accepted something, though `MIN_POLL_SECONDS` apart at least. The
latest changes stay in memory; a follower is no more than the revision it has reached. One that keeps up is served from
memory, one that lags or resumes reads the store at its own pace, and none of them has a queue that could grow.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator

from edge_stscq.server.storage.face_store import Change, ErasedFace, FaceStore

log = logging.getLogger(__name__)

POLL_SECONDS = 0.25
"""Seconds between two looks at the store."""
MIN_POLL_SECONDS = 0.05
"""Seconds from a look that found something to the next, so that a busy server takes changes in by the dozen."""
PAGE = 500
"""Most faces that are read from the store at once."""
RECENT = 1000
"""Changes kept in memory."""


class ChangeFeed:
    """Follows `store` while it is entered.

    Attributes:
        revision: of the newest change seen.
    """

    def __init__(self, store: FaceStore) -> None:
        self._store = store
        self._recent: deque[Change] = deque()
        self._complete_after = self.revision = 0
        self._changed, self._notified = asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "ChangeFeed":
        self._complete_after = self.revision = await asyncio.to_thread(self._store.latest_revision)
        self._task = asyncio.create_task(self._poll(), name="feed")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def notify(self) -> None:
        """Look at the store now: something was accepted."""
        self._notified.set()

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
            fresh = (face for face in self._recent if face.revision > after and device in (None, face.device))
            latest = {face.id: face for face in fresh}
            return sorted(latest.values(), key=lambda face: face.revision), newest
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
            if gone := {face.id for face in faces if isinstance(face, ErasedFace)}:
                self._recent = deque(face for face in self._recent if face.id not in gone)
            for face in faces:
                if len(self._recent) == RECENT:
                    self._complete_after = self._recent.popleft().revision
                self._recent.append(face)
            if faces:
                self.revision = faces[-1].revision
                woken, self._changed = self._changed, asyncio.Event()
                woken.set()
            if len(faces) < PAGE:
                if faces:
                    await asyncio.sleep(MIN_POLL_SECONDS)
                try:
                    async with asyncio.timeout(POLL_SECONDS):
                        await self._notified.wait()
                except TimeoutError:
                    pass
