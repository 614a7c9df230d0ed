"""A micro-batcher: many small requests, one call of the network.

A decoder costs almost the same for one face and for thirty-two, so requests that arrive together should run together.
Each request puts its item in a bounded queue and waits for its own future. One task takes a batch - until it is full
or its oldest item has waited `max_delay` - and runs it in one worker thread, so that the event loop stays free and an
accelerator is driven from a single thread.

Neighbours never harm each other. A caller that goes away cancels its future and is left out of the batch; a batch that
raises is run again one item at a time, so that only the guilty caller sees the error; a full queue refuses new
work at once instead of letting it time out.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class BusyError(Exception):
    """The queue is full, or the batcher is not running; try again in a moment."""


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[Item, Result]):
    item: Item
    future: "asyncio.Future[Result]"
    arrived: float


class MicroBatcher(Generic[Item, Result]):
    """Runs `run(items) -> results` (same length and order) on batches of submitted items.

    Args:
        run: called in the worker thread with 1 to `max_batch` items.
        max_batch: most items in one call.
        max_delay: seconds the oldest item of a batch may wait for company.
        queue_size: items that may wait before `submit` raises `BusyError`.
    """

    def __init__(
        self, run: Callable[[Sequence[Item]], Sequence[Result]], max_batch: int, max_delay: float, queue_size: int
    ) -> None:
        self._run, self._max_batch, self._max_delay = run, max_batch, max_delay
        self._queue: asyncio.Queue[_Waiting[Item, Result]] = asyncio.Queue(queue_size)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batch")
        self._task: asyncio.Task[None] | None = None
        self._busy_since: float | None = None
        self.failed_batches = 0
        """Batches in a row of which every item failed."""

    async def __aenter__(self) -> "MicroBatcher[Item, Result]":
        self._task = asyncio.create_task(self._work(), name="micro-batcher")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Finish the batch that is running and refuse what still waits."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        while not self._queue.empty():
            waiting = self._queue.get_nowait()
            if not waiting.future.done():
                waiting.future.set_exception(BusyError("the server is stopping"))
        await asyncio.to_thread(self._thread.shutdown)

    @property
    def running(self) -> bool:
        return self._task is not None and not self._task.done()

    @property
    def waiting(self) -> int:
        """Items in the queue, those of callers that left among them."""
        return self._queue.qsize()

    @property
    def full(self) -> bool:
        return self._queue.full()

    @property
    def batch_seconds(self) -> float:
        """How long the present batch has been running; 0 when idle. A hung device shows here."""
        return 0.0 if self._busy_since is None else asyncio.get_running_loop().time() - self._busy_since

    async def submit(self, item: Item) -> Result:
        """Wait for the result of one item.

        Raises:
            BusyError: the queue is full or the batcher is stopped; nothing was queued.
            Exception: whatever `run` raised for this very item.
        """
        if not self.running:
            raise BusyError("the batcher is not running")
        loop = asyncio.get_running_loop()
        waiting = _Waiting(item, loop.create_future(), loop.time())
        try:
            self._queue.put_nowait(waiting)
        except asyncio.QueueFull:
            raise BusyError(f"{self._queue.maxsize} items are waiting already") from None
        return await waiting.future

    async def _collect(self, batch: list[_Waiting[Item, Result]]) -> None:
        """Put into `batch` at least one item whose caller still waits, and its company."""
        while not batch:
            first = await self._queue.get()
            if not first.future.done():
                batch.append(first)
        deadline = batch[0].arrived + self._max_delay
        while len(batch) < self._max_batch:
            try:
                more = self._queue.get_nowait()
            except asyncio.QueueEmpty:
                try:
                    async with asyncio.timeout_at(deadline):
                        more = await self._queue.get()
                except TimeoutError:
                    break
            if not more.future.done():
                batch.append(more)
        batch[:] = [waiting for waiting in batch if not waiting.future.done()]

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch: list[_Waiting[Item, Result]] = []
            outcomes: Sequence[Result | Exception] = []
            try:
                await self._collect(batch)
                if batch:
                    self._busy_since = loop.time()
                    running = loop.run_in_executor(
                        self._thread, outcomes_of, self._run, [waiting.item for waiting in batch]
                    )
                    try:
                        outcomes = await asyncio.shield(running)
                    except asyncio.CancelledError:
                        outcomes = await running
                        raise
            except asyncio.CancelledError:
                _deliver(batch, outcomes or [BusyError("the server is stopping")] * len(batch))
                raise
            finally:
                self._busy_since = None
            if batch:
                failed = all(isinstance(outcome, Exception) for outcome in outcomes)
                self.failed_batches = self.failed_batches + 1 if failed else 0
                _deliver(batch, outcomes)


def outcomes_of(run: Callable[[Sequence[Item]], Sequence[Result]], items: Sequence[Item]) -> list[Result | Exception]:
    """What `run` gives for each item, or the exception it raises for that very item; never raises."""
    try:
        results = list(run(items))
        if len(results) != len(items):
            raise RuntimeError(f"{len(items)} items went in and {len(results)} results came out")
        return [*results]
    except Exception as error:
        if len(items) == 1:
            return [error]
        return [outcome for item in items for outcome in outcomes_of(run, [item])]


def _deliver(batch: Sequence[_Waiting[Item, Result]], results: Sequence[Result | Exception]) -> None:
    for waiting, result in zip(batch, results, strict=True):
        if waiting.future.done():
            continue
        if isinstance(result, Exception):
            waiting.future.set_exception(result)
        else:
            waiting.future.set_result(result)
