"""Single-flight LRU cache of pictures by content: concurrent callers share one computation.

Faces are asked for again and again - a page is opened by several people, a list is scrolled back - and the same tokens
always make the same picture. Pictures are kept up to a number of bytes; the one that was used longest ago goes first.
Who asks for a picture that is being made waits for that one. It is made on until nobody waits for it any more.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

ENTRY_BYTES = 256
"""Charge of an entry beside its content."""


@dataclass(slots=True)
class _InFlight:
    task: "asyncio.Task[bytes]"
    callers: int = 0


class SingleFlightCache:
    """At most `max_bytes`, 0 or more, of contents; for one event loop."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._in_flight: dict[str, _InFlight] = {}
        self.bytes = 0
        """Charged at present."""

    async def get_or_create(self, key: str, create: Callable[[], Coroutine[Any, Any, bytes]]) -> bytes:
        """The content named `key`, which `create` makes if it is not here.

        Raises:
            Exception: what `create` raised, to everybody who waits for this content.
        """
        if (content := self._kept.get(key)) is not None:
            self._kept.move_to_end(key)
            return content
        making = self._in_flight.get(key)
        if making is None:
            making = self._in_flight[key] = _InFlight(asyncio.create_task(create()))
            making.task.add_done_callback(lambda task: self._on_done(key, task))
        making.callers += 1
        try:
            return await asyncio.shield(making.task)
        finally:
            making.callers -= 1
            if making.callers == 0 and not making.task.done():
                making.task.cancel()
                if self._in_flight.get(key) is making:
                    del self._in_flight[key]

    def clear(self) -> None:
        """Forget every content; what is being made is not kept."""
        self._kept.clear()
        self._in_flight.clear()
        self.bytes = 0

    def _on_done(self, key: str, task: "asyncio.Task[bytes]") -> None:
        making = self._in_flight.get(key)
        current = making is not None and making.task is task
        if current:
            del self._in_flight[key]
        if not task.cancelled() and task.exception() is None and current:
            self._insert(key, task.result())

    def _insert(self, key: str, content: bytes) -> None:
        if len(content) + ENTRY_BYTES > self._max_bytes or key in self._kept:
            return
        self._kept[key] = content
        self.bytes += len(content) + ENTRY_BYTES
        while self.bytes > self._max_bytes:
            _, oldest = self._kept.popitem(last=False)
            self.bytes -= len(oldest) + ENTRY_BYTES
