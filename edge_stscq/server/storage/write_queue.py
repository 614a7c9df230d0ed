"""Requests that wait, taken together: one thread, one call for all that came while it was busy.

A durable commit costs the same for one request as for fifty, and so does waking a thread. Whoever comes while the
thread works waits for its next turn together with all others who do.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Turnstile(Generic[Item, Result]):
    """Answers each item with what `work(items)` gives for it: a result, or an exception that its caller gets.

    Args:
        work: called in one thread; gives as many outcomes as it was given items. What it raises, all callers get.
        most: items in one call.
    """

    def __init__(self, work: Callable[[Sequence[Item]], Sequence[Result | Exception]], most: int) -> None:
        self._work, self._most = work, most
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="turnstile")
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._turns: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Turnstile[Item, Result]":
        return self

    async def __aexit__(self, *_: object) -> None:
        """Finish what was begun."""
        if self._turns is not None:
            await self._turns
        self._thread.shutdown()

    async def submit(self, item: Item) -> Result:
        """The result of one item. A caller that goes away does not take its item back."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.append((item, future))
        if self._turns is None:
            self._turns = loop.create_task(self._take_turns())
        return await future

    async def _take_turns(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            turn, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            items = [item for item, _ in turn]
            try:
                outcomes = await loop.run_in_executor(self._thread, self._work, items)
            except Exception as error:
                outcomes = [error] * len(turn)
            for (_, future), outcome in zip(turn, outcomes, strict=True):
                if future.done():
                    continue
                if isinstance(outcome, Exception):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)
        self._turns = None
