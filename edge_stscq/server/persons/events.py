"""Events of visits: one begins, or somebody before a camera is, perhaps is or is not on the watch list.

The server that grouped a face tells other programs, so each event goes out once, however many servers share a store;
who follows a server's feed hears of all. Nobody is told of faces that nobody grouped for ten minutes, such as those of
last year when grouping is switched on. Events are not durable: `/v1/visits/changes` misses nothing.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

Watch = Literal["known", "perhaps", "unknown"]
Kind = Literal["visit", "known", "perhaps", "unknown"]
FRESH_SECONDS = 600.0
"""Seconds since a face was received after which it is no event any more."""
MOST_HAPPENED = 1000
"""Events that wait for whoever follows; of more, the oldest are lost."""


class Happening(NamedTuple):
    """An event as the grouping knows it; `own` if this server grouped the face."""

    event: Kind
    visit: int | None
    person: int | None
    enrolled: int | None
    device: str
    track: int | None
    began: float
    face: str | None
    own: bool


class VisitEvent(BaseModel):
    """One event, as other programs get it."""

    model_config = ConfigDict(frozen=True)

    event: Kind = Field(description="`visit`: one began; else the verdict on it among the enrolled, when it is new")
    visit: int | None = Field(description="null of a face that a watch list let pass")
    person: int | None
    name: str | None = Field(description="of the person")
    enrolled: int | None = Field(description="person on the watch list who is or may be the one")
    enrolled_name: str | None
    device: str
    track: int | None
    began: datetime
    face: str | None = Field(description="id of the best face so far")


class EventFeed:
    """The latest events of one application, for any number of followers. For one event loop."""

    def __init__(self) -> None:
        self._recent: deque[VisitEvent] = deque(maxlen=MOST_HAPPENED)
        self._count, self._changed = 0, asyncio.Event()

    def put(self, events: Sequence[VisitEvent]) -> None:
        """Let followers have these."""
        self._recent.extend(events)
        self._count += len(events)
        woken, self._changed = self._changed, asyncio.Event()
        woken.set()

    def follow(self, device: str | None = None) -> AsyncIterator[list[VisitEvent]]:
        """Events from now on, of one device if it is given, without end; of many at once the newest."""
        return self._follow(self._count, device)

    async def _follow(self, at: int, device: str | None) -> AsyncIterator[list[VisitEvent]]:
        while True:
            while at == self._count:
                await self._changed.wait()
            fresh = list(self._recent)[-(self._count - at) :]
            at = self._count
            if found := [one for one in fresh if device in (None, one.device)]:
                yield found
