"""Pictures by content: made once, kept up to a number of bytes, never harmed by a caller who leaves."""

import asyncio

import pytest

from edge_stscq.server.decoding.cache import ENTRY_BYTES, SingleFlightCache

pytestmark = pytest.mark.anyio


class Maker:
    """Makes contents of 100 bytes; counts; can be held at a gate."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.cancelled: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def get(self, cache: SingleFlightCache, key: str) -> bytes:
        async def make() -> bytes:
            self.made.append(key)
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancelled.append(key)
                raise
            return key.encode() * 100

        return await cache.get_or_create(key, make)


async def test_cache_evicts_least_recently_used() -> None:
    maker, cache = Maker(), SingleFlightCache(3 * (100 + ENTRY_BYTES))
    for key in "abcad":
        assert await maker.get(cache, key) == key.encode() * 100
    assert maker.made == ["a", "b", "c", "d"]
    assert cache.bytes == 3 * (100 + ENTRY_BYTES)
    for key in "acdb":
        await maker.get(cache, key)
    assert maker.made == ["a", "b", "c", "d", "b"]


async def test_cache_without_room() -> None:
    for room in (0, 99 + ENTRY_BYTES):
        maker, cache = Maker(), SingleFlightCache(room)
        await maker.get(cache, "a")
        await maker.get(cache, "a")
        assert (maker.made, cache.bytes) == (["a", "a"], 0)


async def test_cache_concurrent_callers_share() -> None:
    maker, cache = Maker(), SingleFlightCache(0)
    maker.gate.clear()
    asks = [asyncio.create_task(maker.get(cache, key)) for key in "aab"]
    await asyncio.sleep(0.01)
    maker.gate.set()
    assert await asyncio.gather(*asks) == [b"a" * 100, b"a" * 100, b"b" * 100]
    assert maker.made == ["a", "b"]


async def test_cache_cancelled_with_last_caller() -> None:
    maker, cache = Maker(), SingleFlightCache(1000)
    maker.gate.clear()
    asks = [asyncio.create_task(maker.get(cache, "a")) for _ in range(3)]
    await asyncio.sleep(0.01)
    for gone in asks[:2]:
        gone.cancel()
    await asyncio.sleep(0.01)
    assert maker.cancelled == []
    asks[2].cancel()
    await asyncio.sleep(0.01)
    assert maker.cancelled == ["a"]
    maker.gate.set()
    assert await maker.get(cache, "a") == b"a" * 100
    assert maker.made == ["a", "a"]


async def test_cache_failure_not_kept() -> None:
    cache, gate = SingleFlightCache(1000), asyncio.Event()

    async def fail() -> bytes:
        await gate.wait()
        raise ValueError("no")

    asks = [asyncio.create_task(cache.get_or_create("a", fail)) for _ in range(2)]
    await asyncio.sleep(0.01)
    gate.set()
    results = await asyncio.gather(*asks, return_exceptions=True)
    assert [type(result) for result in results] == [ValueError, ValueError]
    assert await Maker().get(cache, "a") == b"a" * 100
