"""Group-commit queue: one writer thread that batches the requests queued while it was busy.

A durable commit costs the same for one request as for fifty, and so does waking a thread. Whoever comes while the
thread works waits for its next batch together with all others who do.
"""

import asyncio
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
    """

    def __init__(self, work: Callable[[Sequence[Item]], Sequence[Result | Exception]], max_batch: int) -> None:
        self._work, self._max_batch = work, max_batch
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="write-queue")
        self._queued: list[tuple[Item, asyncio.Future[Result]]] = []
        self._worker: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "GroupCommitQueue[Item, Result]":
        return self

    async def __aexit__(self, *_: object) -> None:
        """Finish what was begun."""
        if self._worker is not None:
            await self._worker
        self._thread.shutdown()

    def close(self) -> None:
        """Begin nothing more, and wait for nothing."""
        self._thread.shutdown(wait=False)

    async def submit(self, item: Item) -> Result:
        """The result of one item. A caller that goes away does not take its item back."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._queued.append((item, future))
        if self._worker is None:
            self._worker = loop.create_task(self._run_batches())
        return await future

    async def _run_batches(self) -> None:
        loop = asyncio.get_running_loop()
        while self._queued:
            batch, self._queued = self._queued[: self._max_batch], self._queued[self._max_batch :]
            items = [item for item, _ in batch]
            try:
                outcomes = await loop.run_in_executor(self._thread, self._work, items)
            except Exception as error:
                outcomes = [error] * len(batch)
            for (_, future), outcome in zip(batch, outcomes, strict=True):
                if future.done():
                    continue
                if isinstance(outcome, Exception):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)
        self._worker = None
