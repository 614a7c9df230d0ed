"""Batches form by count and by deadline, and neighbours in a batch never harm each other."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence

import pytest

from edge_stscq.server.decoding.backend import BusyError
from edge_stscq.server.decoding.batcher import MicroBatcher

pytestmark = pytest.mark.anyio
Batcher = MicroBatcher[int, int, int]


class Doubler:
    """Doubles numbers; remembers its batches; refuses 13; can be held at a gate."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.started, self.gate = threading.Event(), threading.Event()
        self.gate.set()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        self.started.set()
        assert self.gate.wait(60)
        if 13 in items:
            raise ValueError("thirteen")
        return [2 * item for item in items]

    async def hold(self, batcher: Batcher, item: int) -> "asyncio.Task[int]":
        """Submit `item` and return once its batch is running, to be released by `gate`."""
        self.gate.clear()
        self.started.clear()
        task = asyncio.create_task(batcher.submit(item))
        await asyncio.to_thread(self.started.wait, 60)
        return task


def batcher(
    run: Callable[[Sequence[int]], Sequence[int]], finish: Callable[[int], int] = int, **changes: float
) -> Batcher:
    settings = {"max_batch": 4, "max_delay": 0.0, "queue_size": 100, "deadline": 60.0} | changes
    return MicroBatcher(run, finish, **settings)


async def test_batcher_queued_items_share_batches() -> None:
    run = Doubler()
    async with batcher(run) as queue:
        held = await run.hold(queue, 0)
        others = [asyncio.create_task(queue.submit(item)) for item in range(1, 10)]
        await asyncio.sleep(0)
        run.gate.set()
        assert await asyncio.gather(held, *others) == [2 * item for item in range(10)]
    assert run.batches == [[0], [1, 2, 3, 4], [5, 6, 7, 8], [9]]


async def test_batcher_full_batch_runs_at_once() -> None:
    run = Doubler()
    async with batcher(run, max_delay=30) as queue:
        assert await asyncio.wait_for(asyncio.gather(*map(queue.submit, range(4))), 20) == [0, 2, 4, 6]
    assert run.batches == [[0, 1, 2, 3]]


async def test_batcher_lone_item_waits_max_delay() -> None:
    run = Doubler()
    async with batcher(run, max_delay=0.5) as queue:
        start = time.monotonic()
        first = asyncio.create_task(queue.submit(1))
        await asyncio.sleep(0)
        assert await asyncio.gather(first, queue.submit(2)) == [2, 4]
        assert 0.45 < time.monotonic() - start < 20
    assert run.batches == [[1, 2]]


async def test_batcher_isolates_error() -> None:
    run = Doubler()
    async with batcher(run, max_delay=30) as queue:
        results = await asyncio.gather(*map(queue.submit, (1, 13, 2, 3)), return_exceptions=True)
        assert [results[0], results[2], results[3]] == [2, 4, 6]
        assert isinstance(results[1], ValueError)
        assert queue.load().failures == 0


async def test_batcher_counts_failed_batches() -> None:
    run = Doubler()
    async with batcher(run) as queue:
        for _ in range(3):
            with pytest.raises(ValueError, match="thirteen"):
                await queue.submit(13)
        assert queue.load().failures == 3
        assert await queue.submit(1) == 2
        assert queue.load().failures == 0


async def test_batcher_cancelled_while_queued() -> None:
    run = Doubler()
    async with batcher(run, queue_size=3) as queue:
        held = await run.hold(queue, 0)
        others = [asyncio.create_task(queue.submit(item)) for item in (1, 2, 3)]
        await asyncio.sleep(0)
        others[1].cancel()
        await asyncio.gather(others[1], return_exceptions=True)
        others[1] = asyncio.create_task(queue.submit(4))
        await asyncio.sleep(0)
        run.gate.set()
        assert await asyncio.gather(held, *others) == [0, 2, 8, 6]
    assert run.batches == [[0], [1, 3, 4]]


async def test_batcher_cancelled_while_running() -> None:
    run = Doubler()
    run.gate.clear()
    async with batcher(run, max_delay=30) as queue:
        tasks = [asyncio.create_task(queue.submit(item)) for item in range(4)]
        await asyncio.to_thread(run.started.wait, 60)
        tasks[2].cancel()
        await asyncio.sleep(0)
        run.gate.set()
        assert await asyncio.gather(tasks[0], tasks[1], tasks[3]) == [0, 2, 6]
        assert tasks[2].cancelled()
        assert await asyncio.wait_for(asyncio.gather(*map(queue.submit, range(4))), 20) == [0, 2, 4, 6]


async def test_batcher_abandoned_batch_is_no_failure() -> None:
    run = Doubler()
    async with batcher(run) as queue:
        gone = await run.hold(queue, 0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        run.gate.set()
        assert await queue.submit(1) == 2
        gone = await run.hold(queue, 0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        run.gate.set()
    assert queue.load().failures == 0


async def test_batcher_full_queue() -> None:
    run = Doubler()
    async with batcher(run, queue_size=2) as queue:
        held = await run.hold(queue, 0)
        waiting = [asyncio.create_task(queue.submit(item)) for item in (1, 2)]
        await asyncio.sleep(0)
        assert queue.load().queued == 2
        with pytest.raises(BusyError, match="queue of 2 is full"):
            await queue.submit(3)
        run.gate.set()
        assert await asyncio.gather(held, *waiting) == [0, 2, 4]
        assert await queue.submit(3) == 6


async def test_batcher_stop_finishes_running_batch() -> None:
    run = Doubler()
    async with batcher(run, max_batch=1) as queue:
        held = await run.hold(queue, 1)
        waiting = asyncio.create_task(queue.submit(2))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.05, run.gate.set)
    assert await held == 2
    with pytest.raises(BusyError, match="stopping"):
        await waiting
    with pytest.raises(BusyError, match="not running"):
        await queue.submit(3)


async def test_batcher_stop_refuses_gathering_batch() -> None:
    async with batcher(Doubler(), max_delay=30) as queue:
        waiting = asyncio.create_task(queue.submit(1))
        await asyncio.sleep(0.02)
    with pytest.raises(BusyError, match="stopping"):
        await waiting


async def test_batcher_missing_result() -> None:
    async with batcher(lambda items: list(items)[:-1], max_batch=2, max_delay=30) as queue:
        results = await asyncio.gather(queue.submit(1), queue.submit(2), return_exceptions=True)
    assert [type(result) for result in results] == [RuntimeError, RuntimeError]


async def test_batcher_hung_batch_is_visible() -> None:
    run = Doubler()
    async with batcher(run) as queue:
        assert queue.load().oldest_seconds == 0
        held = await run.hold(queue, 0)
        await asyncio.sleep(0.02)
        assert queue.load().oldest_seconds > 0.01
        run.gate.set()
        await held
        assert queue.load().oldest_seconds == 0


async def test_batcher_deadline_exceeded() -> None:
    run = Doubler()
    async with batcher(run, deadline=0.1) as queue:
        held = await run.hold(queue, 0)
        with pytest.raises(BusyError, match="did not come to this face in 0.1 s"):
            await queue.submit(1)
        assert queue.load().queued == 0
        run.gate.set()
        assert await held == 0
        late = asyncio.get_running_loop().time() - 1
        with pytest.raises(BusyError, match="would wait 1.0 s"):
            await queue.submit(2, late)
    assert run.batches == [[0]]


async def test_batcher_rejects_by_estimate() -> None:
    run = Doubler()
    async with batcher(run, max_batch=2, deadline=70) as queue:
        held = await run.hold(queue, 0)
        queue._measure(2, 20.0)
        assert 15 < queue._seconds_ahead() <= 20
        waiting = [asyncio.create_task(queue.submit(item)) for item in (1, 2)]
        await asyncio.sleep(0)
        with pytest.raises(BusyError, match="would wait .* s for the decoder") as refused:
            await queue.submit(3)
        assert 35 < refused.value.retry_after <= 40
        run.gate.set()
        assert await asyncio.gather(held, *waiting) == [0, 2, 4]
        assert await queue.submit(3) == 6


async def test_batcher_idle_never_rejects() -> None:
    async with batcher(Doubler(), deadline=5) as queue:
        queue._measure(4, 100.0)
        assert await queue.submit(1) == 2


async def test_batcher_estimate_recovers() -> None:
    """One slow batch does not keep others out for long."""
    run = Doubler()
    async with batcher(run, max_batch=2, deadline=5) as queue:
        queue._measure(2, 10.0)
        for _ in range(12):
            await queue.submit(1)
        held = await run.hold(queue, 2)
        assert queue._seconds_ahead() < 5
        run.gate.set()
        await held


async def test_batcher_pipelines_two_batches() -> None:
    run, gate, finishing = Doubler(), threading.Event(), threading.Semaphore(0)

    def finish(middle: int) -> int:
        finishing.release()
        assert gate.wait(60)
        return middle + 1

    async with batcher(run, finish, max_batch=1) as queue:
        tasks = [asyncio.create_task(queue.submit(item)) for item in range(4)]
        for _ in range(2):
            assert await asyncio.to_thread(finishing.acquire, timeout=60)
        await asyncio.sleep(0.05)
        assert run.batches == [[0], [1]]
        gate.set()
        assert await asyncio.gather(*tasks) == [1, 3, 5, 7]


async def test_batcher_postprocess_error_isolated() -> None:
    def finish(middle: int) -> int:
        if middle == 4:
            raise ValueError("four")
        return middle

    async with batcher(Doubler(), finish, max_delay=30) as queue:
        results = await asyncio.gather(*map(queue.submit, (1, 2, 3, 4)), return_exceptions=True)
    assert [results[0], results[2], results[3]] == [2, 6, 8]
    assert isinstance(results[1], ValueError)
