"""Erased faces stay away, leave nothing behind, and everybody who follows the store learns of it."""

import asyncio
import contextlib
import secrets
import shutil
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from edge_stscq.errors import EdgeError
from edge_stscq.protocol import RefusedFrame
from edge_stscq.server.decoding.cache import SingleFlightCache
from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.server.matching.memory import FaceIndex
from edge_stscq.server.storage import database, erasure
from edge_stscq.server.storage.change_feed import ChangeFeed
from edge_stscq.server.storage.database import StoreError
from edge_stscq.server.storage.face_store import Change, ErasedFace, FaceName, StoredFace
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from edge_stscq.stream import CodedFace
from edge_stscq.stream.envelope import Clock, Source, WireFrame, device_stream_id, stream_id
from tests.support.stored_faces import MODEL, accept, device_frames, row_of

OpenStore = Callable[[Path | str], SqlFaceStore]
MakeFaces = Callable[..., list[CodedFace]]
CAM = device_stream_id("cam")


@pytest.fixture
def store(place: str, open_store: OpenStore) -> SqlFaceStore:
    return open_store(place)


def names(*numbers: int) -> list[FaceName]:
    return [FaceName(CAM, number) for number in numbers]


def test_erase_keeps_late_layers_away(store: SqlFaceStore) -> None:
    accept(store, device_frames("cam", 0, b"a", b"b", b"c"))
    assert store.erase(names(1, 1, 9)) == 1
    assert [face.id for face in store.page(0, 9)] == ["cam-0", "cam-2"]
    late = device_frames("cam", 1, b"bb")
    (refused,) = accept(store, late)
    assert isinstance(refused, RefusedFrame)
    assert (refused.code, refused.number) == ("erased", 1)
    assert accept(store, late, whole=True) == ["duplicate"], "version 1 has no word for it, and must not send it again"
    assert store.find("cam-1") is None
    assert store.erase(names(1)) == 0


def seen_at(*moments: int, clock: Clock = Clock.SYNCHRONIZED, device: str = "door") -> list[WireFrame]:
    """Frames of a new stream, as a spool that was offline sends them; seconds since 1970 UTC."""
    source = Source(stream_id(secrets.token_bytes(16)), device, MODEL, clock=clock)
    captured = [None if clock == Clock.NONE else 1000 * moment for moment in moments]
    return [WireFrame(source, number, 1, b"a", moment) for number, moment in enumerate(captured)]


def results(store: SqlFaceStore, frames: Sequence[WireFrame]) -> list[str]:
    return [result if isinstance(result, str) else str(result.code) for result in accept(store, frames)]


def test_erased_time_of_a_device_keeps_its_spool_away(store: SqlFaceStore, place: str, open_store: OpenStore) -> None:
    open_store(place).keep_away("door", 1000, 2000)
    assert results(store, seen_at(999, 1000, 1999, 2000)) == ["stored", "erased", "erased", "stored"]
    assert results(store, seen_at(1500, clock=Clock.UNSYNCHRONIZED)) == ["erased"]
    assert results(store, seen_at(1500, clock=Clock.NONE)) == ["stored"], "nobody knows when it was seen"
    assert results(store, seen_at(1500, device="other")) == ["stored"]
    store.keep_away(None, 5000, 6000)
    assert results(store, seen_at(5500, device="other")) == ["erased"]
    store.keep_away("door", 0, 3000)
    assert results(store, seen_at(500, 1500, 2500, 3500)) == ["erased", "erased", "erased", "stored"]
    with store._database.read() as db:
        assert len(erasure.erased_times_of(db)["door"]) == 1, "a time within another one is not kept beside it"


def test_erased_time_ends_now(store: SqlFaceStore) -> None:
    store.keep_away("door", 0, 2 * time.time())
    now = int(time.time())
    assert results(store, seen_at(now - 60, now + 60)) == ["erased", "stored"]


def test_erase_is_a_change_in_order(store: SqlFaceStore) -> None:
    accept(store, device_frames("cam", 0, b"a", b"b"))
    store.erase(names(0))
    accept(store, device_frames("door", 5, b"d"))
    found = [(type(change), change.id, change.revision) for change in store.changes(0, 9)]
    assert found == [(StoredFace, "cam-1", 2), (ErasedFace, "cam-0", 3), (StoredFace, "door-5", 4)]
    assert [change.id for change in store.changes(2, 1)] == ["cam-0"]
    assert [change.id for change in store.changes(0, 9, "door")] == ["door-5"]
    assert store.latest_revision() == 4


def test_erase_many_at_once(store: SqlFaceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasure, "MANY", 7)
    accept(store, device_frames("cam", 0, *[b"a"] * 30))
    assert store.erase(names(*range(5, 30))) == 25
    assert [face.sequence for face in store.page(0, 99)] == [0, 1, 2, 3, 4]
    results = accept(store, device_frames("cam", 0, *[b"a"] * 30))
    assert [isinstance(result, RefusedFrame) for result in results] == [False] * 5 + [True] * 25


def test_expired_goes_by_the_clock_that_can_be_believed(store: SqlFaceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    old = int((now - 1000) * 1000)
    for number, clock in enumerate((Clock.SYNCHRONIZED, Clock.UNSYNCHRONIZED, Clock.NONE)):
        source = Source(stream_id(bytes(15) + bytes([number])), f"cam-{number}", MODEL, clock=clock)
        accept(store, [WireFrame(source, 0, 1, b"a", old if clock else None)])
    assert [face.device for face in store.expired(now - 500, 9, None)] == ["cam-0"]
    assert store.expired(now - 500, 9, "cam-1") == store.expired(now - 2000, 9, None) == []
    assert [face.device for face in store.expired(now + 1, 9, None, others=["cam-0"])] == ["cam-1", "cam-2"]
    assert [face.device for face in store.expired(now + 1, 1, None)] == ["cam-0"]


def test_expired_face_may_come_again(store: SqlFaceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    accept(store, device_frames("cam", 0, b"a"))
    assert store.erase(names(0), lasting=False) == 1
    assert accept(store, device_frames("cam", 0, b"ab")) == ["stored"]
    assert store.erase(names(0), lasting=False) == 1
    later = time.time() + erasure.REMEMBERED + 1
    monkeypatch.setattr(time, "time", lambda: later)
    accept(store, device_frames("cam", 1, b"x"))
    store.erase(names(1))
    assert [change.id for change in store.changes(0, 9)] == ["cam-1"]


def test_scrub_leaves_no_byte(tmp_path: Path, open_store: OpenStore) -> None:
    """Neither of what was erased nor of what a longer frame replaced, in any file of the store."""
    store, secret = open_store(tmp_path / "faces.db"), b"SECRETTEMPLATE!"
    accept(store, device_frames("cam", 0, *[secret[:15]] * 40))
    assert any(secret in path.read_bytes() for path in tmp_path.iterdir())
    store.erase(names(*range(40)))
    store.scrub()
    assert not any(secret in path.read_bytes() for path in tmp_path.iterdir())


def test_scrub_rewrites_a_file_that_did_not_overwrite(
    tmp_path: Path, open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, secret = tmp_path / "faces.db", b"SECRETTEMPLATE!"
    with monkeypatch.context() as patched:
        patched.setattr(database, "_PRAGMAS", ("synchronous=FULL", "secure_delete=OFF"))
        store = open_store(path)
        accept(store, device_frames("cam", 0, *[secret] * 40))
        with store._database.write() as db:
            db.exec_driver_sql("DELETE FROM faces")
            db.exec_driver_sql("UPDATE changes SET overwrites = 0")
        store.close()
    assert secret in path.read_bytes(), "as in a file of an earlier program"
    store = open_store(path)
    store.scrub()
    assert not any(secret in found.read_bytes() for found in tmp_path.iterdir())


def test_scrub_beside_a_reader_says_so(tmp_path: Path, open_store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "WAIT_SECONDS", 0.1)
    path = tmp_path / "faces.db"
    store = open_store(path)
    accept(store, device_frames("cam", 0, b"a"))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM faces").fetchone()
        store.erase(names(0))
        with pytest.raises(StoreError, match="still in the log"):
            store.scrub()
    store.scrub()


@pytest.mark.parametrize("how", ["replaced", "removed"])
def test_file_that_is_not_the_open_one_takes_nothing(how: str, tmp_path: Path, open_store: OpenStore) -> None:
    path = tmp_path / "faces.db"
    store = open_store(path)
    accept(store, device_frames("cam", 0, b"a"))
    if how == "replaced":
        shutil.copy(path, tmp_path / "copy.db")
        (tmp_path / "copy.db").replace(path)
    else:
        path.unlink()
    for use in (lambda: accept(store, device_frames("cam", 1, b"b")), store.check_writable, lambda: store.page(0, 9)):
        with pytest.raises(StoreError, match=r"faces\.db was replaced or removed while it was open"):
            use()


def test_file_open_to_others_is_refused(tmp_path: Path, open_store: OpenStore) -> None:
    path = tmp_path / "faces.db"
    open_store(path).close()
    path.chmod(0o640)
    with pytest.raises(EdgeError, match=r"others may read or write the store at .*; run: chmod 600 "):
        open_store(path)


def test_feed_tells_of_erased_faces_and_keeps_none(store: SqlFaceStore) -> None:
    async def follow() -> list[list[str]]:
        accept(store, device_frames("cam", 0, b"old"))
        async with ChangeFeed(store) as feed:
            changes = feed.changes(feed.revision)
            accept(store, device_frames("cam", 1, b"secret", b"kept"))
            feed.notify()
            told = [[change.id for change in await anext(changes)]]
            store.erase(names(0, 1))
            feed.notify()
            told.append([f"{type(change).__name__} {change.id}" for change in await anext(changes)])
            kept = [change for part in feed._recent for change in part]
            assert [change.id for change in kept if isinstance(change, StoredFace)] == ["cam-2"]
            return told

    assert asyncio.run(follow()) == [["cam-1", "cam-2"], ["ErasedFace cam-0", "ErasedFace cam-1"]]


def test_index_forgets_erased_faces(entry: CatalogEntry, make_faces: MakeFaces) -> None:
    source = Source(device_stream_id("cam"), "cam", entry.model_id)
    faces = make_faces(6)
    rows = [
        row_of(WireFrame(source, number, face.layers, entry.codec.payload(face)), number + 1)
        for number, face in enumerate(faces)
    ]
    index = FaceIndex(entry, 5)
    index.add(rows[:5])
    gone: list[Change] = [ErasedFace("cam", CAM, 1, 10), ErasedFace("cam", CAM, 77, 11)]
    index.add(gone)
    assert (len(index), index.revision) == (4, 11)
    assert {hit.id for hit in index.search(faces[1], 9)} == {"cam-0", "cam-2", "cam-3", "cam-4"}
    assert all(hit.id == f"cam-{number}" for number in (0, 2, 3, 4) for hit in index.search(faces[number], 1))
    (block,) = index._blocks._blocks
    assert all(not column[4:].any() for column in block.columns), "nothing of it stays in memory"
    index.add([rows[5], ErasedFace("cam", CAM, 5, 12)])
    assert len(index) == 4
    index.add([ErasedFace("cam", CAM, number, 20 + number) for number in range(5)])
    assert index.search(faces[0], 9) == []
    index.add(rows[:5])
    assert len(index) == 5
    assert np.isclose(index.search(faces[3], 1)[0].cosine, 1)


def test_cache_clear_keeps_nothing_that_was_begun_before() -> None:
    async def use() -> tuple[bytes, int, bytes]:
        cache, released = SingleFlightCache(10_000), asyncio.Event()

        async def slow() -> bytes:
            await released.wait()
            return b"old"

        async def new() -> bytes:
            return b"new"

        assert await cache.get_or_create("kept", new) == b"new"
        making = asyncio.create_task(cache.get_or_create("face", slow))
        await asyncio.sleep(0)
        cache.clear()
        released.set()
        return await making, cache.bytes, await cache.get_or_create("face", new)

    assert asyncio.run(use()) == (b"old", 0, b"new")
