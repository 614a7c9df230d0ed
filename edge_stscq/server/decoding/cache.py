"""Finished pictures by content: the latest used are kept, and nobody makes one twice at the same time.

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
"""What an entry is charged beside its content."""


@dataclass(slots=True)
class _Making:
    task: "asyncio.Task[bytes]"
    callers: int = 0


class ContentCache:
    """At most `max_bytes`, 0 or more, of contents; for one event loop."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._making: dict[str, _Making] = {}
        self.bytes = 0
        """Charged at present."""

    async def get(self, key: str, make: Callable[[], Coroutine[Any, Any, bytes]]) -> bytes:
        """The content named `key`, which `make` makes if it is not here.

        Raises:
            Exception: what `make` raised, to everybody who waits for this content.
        """
        if (content := self._kept.get(key)) is not None:
            self._kept.move_to_end(key)
            return content
        making = self._making.get(key)
        if making is None:
            making = self._making[key] = _Making(asyncio.create_task(make()))
            making.task.add_done_callback(lambda task: self._made(key, task))
        making.callers += 1
        try:
            return await asyncio.shield(making.task)
        finally:
            making.callers -= 1
            if making.callers == 0 and not making.task.done():
                making.task.cancel()
                del self._making[key]

    def _made(self, key: str, task: "asyncio.Task[bytes]") -> None:
        if (making := self._making.get(key)) is not None and making.task is task:
            del self._making[key]
        if not task.cancelled() and task.exception() is None:
            self._keep(key, task.result())

    def _keep(self, key: str, content: bytes) -> None:
        if len(content) + ENTRY_BYTES > self._max_bytes or key in self._kept:
            return
        self._kept[key] = content
        self.bytes += len(content) + ENTRY_BYTES
        while self.bytes > self._max_bytes:
            _, oldest = self._kept.popitem(last=False)
            self.bytes -= len(oldest) + ENTRY_BYTES
