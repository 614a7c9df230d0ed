"""Group-commit queue: one thread that batches what is asked of it while it is busy.

A durable commit costs the same for one request as for fifty, and so does waking a thread. Whoever comes while the
thread works waits for its next batch together with all others who do.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class GroupCommitQueue(Generic[Item, Result]):
    """Answers each item with what `work(items)` gives for it: a result, or an exception that its caller gets.

    Args:
        work: called in one thread; gives as many outcomes as it was given items. What it raises, all callers get.
        max_batch: most items in one call.
        name: of the thread.
    """

    def __init__(
        self, work: Callable[[Sequence[Item]], Sequence[Result | Exception]], max_batch: int, name: str = "write-queue"
    ) -> None:
        self._work, self._max_batch = work, max_batch
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._lock = threading.Lock()
        self._queued: list[tuple[Item, asyncio.Future[Result]]] = []
        self._working = False

    async def __aenter__(self) -> "GroupCommitQueue[Item, Result]":
        return self

    async def __aexit__(self, *_: object) -> None:
        """Finish what was begun."""
        await asyncio.sleep(0)
        await asyncio.to_thread(self._thread.shutdown)

    def close(self) -> None:
        """Begin nothing more, and wait for nothing."""
        self._thread.shutdown(wait=False)

    async def submit(self, item: Item) -> Result:
        """The result of one item. A caller that goes away does not take its item back."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        with self._lock:
            self._queued.append((item, future))
            begins, self._working = not self._working, True
        if begins:
            loop.call_soon(self._thread.submit, self._work_off, loop)  # with all that is asked in this turn of the loop
        return await future

    def _work_off(self, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            with self._lock:
                batch, self._queued = self._queued[: self._max_batch], self._queued[self._max_batch :]
                self._working = bool(batch)
            if not batch:
                return
            try:
                outcomes = list(zip(batch, self._work([item for item, _ in batch]), strict=True))
            except Exception as error:
                outcomes = [(one, error) for one in batch]
            loop.call_soon_threadsafe(_deliver, [(future, outcome) for (_, future), outcome in outcomes])


def _deliver(outcomes: Sequence[tuple[asyncio.Future[Result], Result | Exception]]) -> None:
    for future, outcome in outcomes:
        if future.done():
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
