"""Micro-batcher: one call of the network for many small requests.

A decoder costs less for each of eight faces than for one, so requests that arrive together should run together. Each
request puts its item in a bounded queue and waits for its own future. A batch is taken when the device is free: once it
is full, or its oldest item has waited `max_delay`. It runs in one thread, so that an accelerator is driven from a
single one; then its results are finished (written as PNG) in others, while the device has the next batch already.
No third batch is begun before one of two is done: a slow finish holds the device back instead of filling the memory.

An item whose batch has not begun at its deadline is refused. So is at once one that would come too close to it: the
queue is full, or by the measured time of a batch its own would not be done in three quarters of that time. The last
quarter is for what no estimate knows. The estimate also tells those who are refused when to come back.

Neighbours never harm each other. A caller that goes away leaves the queue with its item; a batch that raises is run
again one item at a time, so that only the guilty caller sees the error.
"""

import asyncio
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from edge_stscq.server.decoding.backend import BackendStats, BusyError

Item = TypeVar("Item")
Intermediate = TypeVar("Intermediate")
Result = TypeVar("Result")

POSTPROCESS_THREADS = min(8, os.cpu_count() or 1)
"""Threads that postprocess results."""
STOP_SECONDS = 2.0
"""For which a batch that is running is waited for at the end."""
_DEADLINE_MARGIN = 0.75
"""Share of the deadline in which a face must be decoded by the estimate."""
_EMA_WEIGHT = 0.25
"""Share of a new measurement in the estimate."""


@dataclass(frozen=True, slots=True)
class _Queued(Generic[Item, Result]):
    item: Item
    future: "asyncio.Future[Result]"
    arrived: float


class MicroBatcher(Generic[Item, Intermediate, Result]):
    """Runs `run_batch(items) -> intermediates` (same length and order), then `postprocess(intermediate)` on each.

    Args:
        run_batch: called in one thread with 1 to `max_batch` items.
        postprocess: called in several threads with one intermediate.
        max_batch: most items in one call of `run_batch`.
        max_delay: seconds the oldest item of a batch may wait for company.
        queue_size: items that may wait.
        deadline: seconds after its arrival by which the batch of an item must have begun.
        unavailable: asked before an item is taken; why the device takes none now, or None.
    """

    def __init__(
        self, run_batch: Callable[[Sequence[Item]], Sequence[Intermediate]],
        postprocess: Callable[[Intermediate], Result],
        *, max_batch: int, max_delay: float, queue_size: int, deadline: float,
        unavailable: Callable[[], BusyError | None] = lambda: None,
    ) -> None:  # fmt: skip
        self._run_batch, self._postprocess, self._unavailable = run_batch, postprocess, unavailable
        self._max_batch, self._max_delay, self._queue_size = max_batch, max_delay, queue_size
        self.deadline = deadline
        self._queue: OrderedDict[asyncio.Future[Result], _Queued[Item, Result]] = OrderedDict()
        self._changed, self._device = asyncio.Event(), asyncio.Lock()
        self._runner = ThreadPoolExecutor(1, thread_name_prefix="batch")
        self._postprocessors = ThreadPoolExecutor(POSTPROCESS_THREADS, thread_name_prefix="postprocess")
        self._workers: list[asyncio.Task[None]] = []
        self._stopped = False
        self._busy_since: float | None = None
        self._full_batch = self._last_done = 0.0
        self._in_flight = 0
        self._failures = 0  # batches in a row of which every item failed
        self.on_batch: Callable[[int, float], None] = lambda items, seconds: None

    async def __aenter__(self) -> "MicroBatcher[Item, Intermediate, Result]":
        self._workers = [asyncio.create_task(self._work(), name=f"micro-batcher {number}") for number in range(2)]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Finish the batches that are running, unless they hang, and refuse what still waits."""
        self._stopped = True
        self._changed.set()
        for future in self._queue:
            if not future.done():
                future.set_exception(BusyError("the server is stopping"))
        self._queue.clear()
        done, hung = await asyncio.wait(self._workers, timeout=STOP_SECONDS)
        for worker in hung:
            worker.cancel()
        self._runner.shutdown(wait=False)
        self._postprocessors.shutdown(wait=False)

    def load(self) -> BackendStats:
        return BackendStats(self._running, len(self._queue), self._in_flight, self._batch_seconds, self._failures)

    @property
    def _running(self) -> bool:
        return bool(self._workers) and not self._stopped and not any(worker.done() for worker in self._workers)

    @property
    def _batch_seconds(self) -> float:
        """Seconds that the present batch has been running; 0 when idle. A hung device shows here."""
        return 0.0 if self._busy_since is None else time.monotonic() - self._busy_since

    def _seconds_ahead(self, queued_ahead: int = 0) -> float:
        """Seconds until an item that came now, behind `queued_ahead` others, would begin: 0 before the first batch."""
        running = 0.0 if self._busy_since is None else max(0.0, self._full_batch - self._batch_seconds)
        return running + (len(self._queue) + queued_ahead) // self._max_batch * self._full_batch

    def rejection(self, waited: float = 0.0, queued_ahead: int = 0) -> BusyError | None:
        """Refusal of an item that came `waited` seconds ago, `queued_ahead` others before it; None if it has room."""
        if not self._running:
            return BusyError("the decoder's queue is not running")
        if (busy := self._unavailable()) is not None:
            return busy
        ahead = self._seconds_ahead(queued_ahead)
        if len(self._queue) + queued_ahead >= self._queue_size:
            return BusyError(f"the decoder's queue of {self._queue_size} is full", ahead)
        if waited > self.deadline or (ahead and waited + ahead + self._full_batch > _DEADLINE_MARGIN * self.deadline):
            return BusyError(f"a face would wait {waited + ahead:.1f} s for the decoder", ahead)
        return None

    async def submit(self, request: Item, arrived: float | None = None) -> Result:
        """Wait for the result of one item (`request`, as every backend calls it).

        Args:
            arrived: when its request came, by the event loop's clock; now if None.

        Raises:
            BusyError: it cannot begin or has not begun by its deadline, or the batcher is stopped.
            Exception: whatever `run_batch` or `postprocess` raised for this very item.
        """
        loop = asyncio.get_running_loop()
        if arrived is None:
            arrived = loop.time()
        if (rejection := self.rejection(loop.time() - arrived)) is not None:
            raise rejection
        future: asyncio.Future[Result] = loop.create_future()
        self._queue[future] = _Queued(request, future, arrived)
        self._changed.set()
        expiry = loop.call_at(arrived + self.deadline, self._expire, future)
        self._in_flight += 1
        try:
            return await future
        finally:
            self._in_flight -= 1
            expiry.cancel()
            self._queue.pop(future, None)

    def _expire(self, future: "asyncio.Future[Result]") -> None:
        if self._queue.pop(future, None) is not None and not future.done():
            message = f"the decoder did not come to this face in {self.deadline:g} s"
            future.set_exception(BusyError(message, self._seconds_ahead()))

    async def _collect(self) -> list[_Queued[Item, Result]]:
        """The next batch, all of whose callers still wait; empty once the batcher is stopped."""
        loop = asyncio.get_running_loop()
        batch: list[_Queued[Item, Result]] = []
        while not batch and not self._stopped:
            self._changed.clear()
            if not self._queue:
                await self._changed.wait()
                continue
            complete = next(iter(self._queue.values())).arrived + self._max_delay
            if len(self._queue) < self._max_batch and loop.time() < complete:
                try:
                    async with asyncio.timeout_at(complete):
                        await self._changed.wait()
                except TimeoutError:
                    pass
                continue
            oldest = (self._queue.popitem(last=False)[1] for _ in range(min(self._max_batch, len(self._queue))))
            batch = [entry for entry in oldest if not entry.future.done()]
        return batch

    async def _work(self) -> None:
        """One of two workers; while one runs a batch, the other may finish the batch before."""
        loop = asyncio.get_running_loop()
        while not self._stopped:
            async with self._device:
                batch = await self._collect()
                if not batch:
                    continue
                begun = self._busy_since = time.monotonic()
                items = [entry.item for entry in batch]
                intermediates = await loop.run_in_executor(self._runner, run_isolating_failures, self._run_batch, items)
                ran, self._busy_since = time.monotonic(), None
            self.on_batch(len(batch), ran - begun)
            outcomes = await asyncio.gather(*map(self._postprocessed, batch, intermediates))
            done = time.monotonic()
            self._measure(len(batch), max(ran - begun, done - max(begun, self._last_done)))
            self._last_done = done
            self._deliver(batch, outcomes)

    def _measure(self, count: int, seconds: float) -> None:
        """Learn the time of a full batch: a full one tells it, one of fewer items bounds it from both sides.

        It follows slowly: a queue is as long as its lowest estimate allowed.
        """
        learnt = min(max(self._full_batch, seconds), seconds * self._max_batch / count)
        self._full_batch += (learnt - self._full_batch) * (_EMA_WEIGHT if self._full_batch else 1)

    async def _postprocessed(
        self, entry: _Queued[Item, Result], intermediate: Intermediate | Exception
    ) -> Result | Exception:
        if isinstance(intermediate, Exception):
            return intermediate
        if entry.future.done():
            return BusyError("nobody waits for this item")
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._postprocessors, self._postprocess, intermediate
            )
        except Exception as error:
            return error

    def _deliver(self, batch: Sequence[_Queued[Item, Result]], outcomes: Sequence[Result | Exception]) -> None:
        """Hand out what somebody still waits for, and count batches of which all that failed."""
        asked = [pair for pair in zip(batch, outcomes, strict=True) if not pair[0].future.done()]
        if asked:
            failed = all(isinstance(outcome, Exception) for _, outcome in asked)
            self._failures = self._failures + 1 if failed else 0
        for entry, outcome in asked:
            if isinstance(outcome, Exception):
                entry.future.set_exception(outcome)
            else:
                entry.future.set_result(outcome)


def run_isolating_failures(
    run: Callable[[Sequence[Item]], Sequence[Result]], items: Sequence[Item]
) -> list[Result | Exception]:
    """Result of `run` for each item, or the exception it raises for that very item; never raises."""
    try:
        results = list(run(items))
        if len(results) != len(items):
            raise RuntimeError(f"{len(items)} items went in and {len(results)} results came out")
        return [*results]
    except BusyError as error:  # of whatever runs the batch, and no item's fault
        return [error] * len(items)
    except Exception as error:
        if len(items) == 1:
            return [error]
        return [outcome for item in items for outcome in run_isolating_failures(run, [item])]
