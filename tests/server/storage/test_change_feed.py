"""The feed tells what its own application stores without reading it back, and misses nothing of what others do."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_stscq.server.storage import change_feed
from edge_stscq.server.storage.change_feed import ChangeFeed
from edge_stscq.server.storage.face_store import Change, FaceName, FreshFace
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from edge_stscq.stream.envelope import device_stream_id
from tests.support.stored_faces import accept, device_frames

pytestmark = pytest.mark.anyio
OpenStore = Callable[[Path | str], SqlFaceStore]


@pytest.fixture
def store(place: str, open_store: OpenStore) -> SqlFaceStore:
    return open_store(place)


class Reads(list[Change]):
    """Changes that the feed has read from the store."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()


@pytest.fixture
def reads(store: SqlFaceStore, monkeypatch: pytest.MonkeyPatch) -> Reads:
    found, read = Reads(), store.changes

    def noted(*wanted: object) -> list[Change]:
        rows = read(*wanted)  # type: ignore[arg-type]
        found.extend(rows)
        found.begun.set()
        return rows

    monkeypatch.setattr(store, "changes", noted)
    return found


async def followed(feed: ChangeFeed, after: int, until: int) -> list[Change]:
    """All changes up to a revision."""
    found: list[Change] = []
    async with asyncio.timeout(30):
        async for changes in feed.changes(after):
            found += changes
            if found[-1].revision >= until:
                return found
    raise AssertionError


async def put(store: SqlFaceStore, first: int, *texts: bytes, device: str = "cam") -> None:
    await asyncio.to_thread(accept, store, device_frames(device, first, *texts))


async def test_own_faces_come_without_being_read_back(
    store: SqlFaceStore, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_feed, "POLL_SECONDS", 60)
    async with ChangeFeed(store) as feed:
        await asyncio.to_thread(reads.begun.wait, 30)
        await put(store, 0, b"a", b"bc")
        await put(store, 2, b"d", b"efg")
        await put(store, 1, b"bcd")
        found = await followed(feed, 0, 5)
        read = store.page(0, 9)
        assert not reads
    assert [(face.id, face.revision) for face in found] == [("cam-0", 1), ("cam-2", 3), ("cam-3", 4), ("cam-1", 5)]
    by_name = {face.id: face for face in read}
    for face in found:
        assert isinstance(face, FreshFace)
        assert face._replace(row=by_name[face.id].row) == by_name[face.id]
        assert face.frame() == by_name[face.id].frame()


async def test_faces_of_other_servers_come_between_own(
    store: SqlFaceStore, place: str, open_store: OpenStore, reads: Reads
) -> None:
    other = open_store(place)
    async with ChangeFeed(store) as feed:
        for number in range(20):
            await put(store if number % 3 else other, number, b"text")
        found = await followed(feed, 0, 20)
    assert [face.id for face in found] == [f"cam-{number}" for number in range(20)]
    assert {face.id for face in reads} >= {f"cam-{number}" for number in range(0, 20, 3)}


async def test_erased_face_goes_from_memory(store: SqlFaceStore) -> None:
    async with ChangeFeed(store) as feed:
        await put(store, 0, b"a", b"b", b"c")
        await followed(feed, 0, 3)
        await asyncio.to_thread(store.erase, [FaceName(device_stream_id("cam"), 1)])
        feed.notify()
        await put(store, 7, b"d")
        async with asyncio.timeout(30):
            while feed.revision < 5:
                await asyncio.sleep(0.01)
        found = await followed(feed, 0, 5)
    assert [(face.id, face.revision) for face in found] == [("cam-0", 1), ("cam-2", 3), ("cam-1", 4), ("cam-7", 5)]


async def test_follower_that_lags_reads_the_store(
    store: SqlFaceStore, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_feed, "RECENT", 4)
    monkeypatch.setattr(change_feed, "PAGE", 3)
    async with ChangeFeed(store) as feed:
        for number in range(10):
            await put(store, 2 * number, b"a", b"b")
        assert [face.revision for face in await followed(feed, 0, 20)] == list(range(1, 21))
        assert {face.revision for face in reads} >= set(range(1, 15))
        assert [face.revision for face in await followed(feed, 16, 20)] == [17, 18, 19, 20]
        kept = sum(map(len, feed._recent))
    assert kept <= 6


async def test_store_tells_nobody_after_the_end(store: SqlFaceStore) -> None:
    async with ChangeFeed(store) as feed:
        await put(store, 0, b"a")
    await put(store, 1, b"b")
    assert feed.revision == 1
