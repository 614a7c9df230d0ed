"""One thread, one call for all who wait, and an answer to each."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from edge_stscq.server.write_queue import GroupCommitQueue

pytestmark = pytest.mark.anyio


class Halver:
    """Halves even numbers; refuses odd ones; fails whole on -2. Waits while `gate` is closed."""

    def __init__(self) -> None:
        self.gate, self.batches = threading.Event(), list[list[int]]()
        self.gate.set()

    def __call__(self, items: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(items))
        assert self.gate.wait(60)
        if -2 in items:
            raise OSError("disk full")
        return [ValueError(f"{item} is odd") if item % 2 else item // 2 for item in items]


async def test_queue_batches_what_waits() -> None:
    work = Halver()
    async with GroupCommitQueue(work, max_batch=3) as queue:
        work.gate.clear()
        asked = [asyncio.create_task(queue.submit(number)) for number in (0, 2, 4, 5, 8, 10)]
        while not work.batches:
            await asyncio.sleep(0.001)
        asked[2].cancel()
        work.gate.set()
        answers = await asyncio.gather(*asked, return_exceptions=True)
    assert work.batches == [[0], [2, 4, 5], [8, 10]] or work.batches == [[0, 2, 4], [5, 8, 10]]
    assert [type(answer).__name__ for answer in answers] == ["int", "int", "CancelledError", "ValueError", "int", "int"]
    assert [answers[number] for number in (0, 1, 4, 5)] == [0, 1, 4, 5]


async def test_queue_failed_batch() -> None:
    work = Halver()
    async with GroupCommitQueue(work, max_batch=8) as queue:
        answers = await asyncio.gather(queue.submit(-2), queue.submit(2), return_exceptions=True)
        assert [str(answer) for answer in answers] == ["disk full"] * 2
        assert await queue.submit(6) == 3


async def test_queue_exit_finishes_batches() -> None:
    work = Halver()
    async with GroupCommitQueue(work, max_batch=1) as queue:
        asked = [asyncio.create_task(queue.submit(number)) for number in (2, 4)]
        await asyncio.sleep(0)
    assert [task.result() for task in asked] == [1, 2]
