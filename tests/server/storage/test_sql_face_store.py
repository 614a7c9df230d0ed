"""Accepted frames survive, once, in either database; other programs' files are left alone."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edge_stscq.errors import EdgeError
from edge_stscq.protocol import RefusedFrame
from edge_stscq.server.storage import acceptance
from edge_stscq.server.storage.face_store import DeviceStats, FrameBatch
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from edge_stscq.stream.envelope import device_stream_id
from tests.support import stored_faces
from tests.support.stored_faces import MODEL, device_frames, same_prefix

OpenStore = Callable[[Path | str], SqlFaceStore]


@pytest.fixture
def store(place: str, open_store: OpenStore) -> SqlFaceStore:
    return open_store(place)


def accept(store: SqlFaceStore, first: int, *texts: bytes, device: str = "cam") -> list[str]:
    """Store frames; the result of each, of a refused one its code."""
    results = stored_faces.accept(store, device_frames(device, first, *texts))
    return [result.code if isinstance(result, RefusedFrame) else result for result in results]


def test_accept_stored_extended_duplicate(store: SqlFaceStore) -> None:
    assert accept(store, 5, b"ab", b"x") == ["stored", "stored"]
    assert accept(store, 5, b"ab", b"xyz") == ["duplicate", "extended"]
    assert accept(store, 5, b"a", b"x") == ["duplicate", "duplicate"]
    assert [(face.id, face.payload, face.layers) for face in store.page(0, 9)] == [
        ("cam-5", b"ab", 2),
        ("cam-6", b"xyz", 3),
    ]


def test_accept_conflict_refused_alone(store: SqlFaceStore) -> None:
    accept(store, 7, b"a")
    assert accept(store, 6, b"new", b"b", b"c") == ["stored", "conflict", "stored"]
    (refused,) = stored_faces.accept(store, device_frames("cam", 7, b"a", model=b"87654321"))
    assert refused == RefusedFrame(
        stream=device_stream_id("cam").hex(), number=7, code="conflict", reason="cam-7 is already another face"
    )
    assert [(face.id, face.payload) for face in store.page(0, 9)] == [
        ("cam-7", b"a"),
        ("cam-6", b"new"),
        ("cam-8", b"c"),
    ]


def test_accept_whole_conflict_stores_none(store: SqlFaceStore) -> None:
    accept(store, 7, b"a")
    results = stored_faces.accept(store, device_frames("cam", 6, b"new", b"b"), whole=True)
    assert [isinstance(result, RefusedFrame) for result in results] == [False, True]
    assert [face.id for face in store.page(0, 9)] == ["cam-7"]
    assert store.latest_revision() == 1


def test_find_by_name(store: SqlFaceStore) -> None:
    accept(store, 2, b"a", device="cam-1")
    found = store.find("cam-1-2")
    assert found is not None
    assert (found.device, found.sequence, found.model) == ("cam-1", 2, MODEL)
    for name in ("cam-1-02", "cam-1-3", "cam-1", "cam-1-", "", "-", "cam-1-٢", "cam-1--2", "cam-1-" + "9" * 5000):
        assert store.find(name) is None


def test_page_continuation(store: SqlFaceStore) -> None:
    accept(store, 0, *(b"a" for _ in range(5)))
    first = store.page(0, 3)
    assert [face.sequence for face in first + store.page(first[-1].row, 3)] == [0, 1, 2, 3, 4]


def test_changes_order(store: SqlFaceStore) -> None:
    assert (store.latest_revision(), store.changes(0, 9)) == (0, [])
    accept(store, 0, b"a", b"x")
    accept(store, 0, b"d", device="door")
    assert [(face.id, face.revision) for face in store.changes(0, 9)] == [("cam-0", 1), ("cam-1", 2), ("door-0", 3)]
    accept(store, 0, b"ab", b"x")
    assert [(face.id, face.revision) for face in store.changes(1, 9)] == [("cam-1", 2), ("door-0", 3), ("cam-0", 4)]
    assert [face.id for face in store.changes(1, 2)] == ["cam-1", "door-0"]
    assert [face.id for face in store.changes(0, 9, "door")] == ["door-0"]
    assert store.latest_revision() == 4


def test_devices_statistics(store: SqlFaceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for now, device, first, frame in ((10.0, "cam", 0, b"ab"), (20.0, "cam", 1, b"abc"), (15.0, "door", 0, b"a")):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        accept(store, first, frame, device=device)
    cam, door = DeviceStats("cam", 2, 5 + 12, 20.0, 1, 3 + 6), DeviceStats("door", 1, 1 + 6, 15.0, 1, 1 + 6)
    assert store.devices(15.0) == [cam, door]


def test_accept_from_many_threads(store: SqlFaceStore) -> None:
    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(lambda _: accept(store, 0, b"a")[0], range(32)))
    assert sorted(outcomes) == ["duplicate"] * 31 + ["stored"]
    assert store.count() == 1


def test_accept_all_answers_each_batch(store: SqlFaceStore) -> None:
    accept(store, 1, b"taken")
    sent = [(0, b"a"), (1, b"other"), (0, b"ab"), (2, b"c", b"d"), (3, b"x"), (0, b"a"), (1, b"taken!"), (9, b"n")]
    answers = store.accept_all([
        FrameBatch(device_frames("cam", first, *texts), same_prefix, whole=True) for first, *texts in sent
    ])  # fmt: skip
    for number, message in ((4, "cam-3 is already another face"), (1, "cam-1 is already another face")):
        assert [result.reason for result in answers.pop(number) if isinstance(result, RefusedFrame)] == [message]
    assert answers == [["stored"], ["extended"], ["stored", "stored"], ["duplicate"], ["extended"], ["stored"]]
    assert [(face.id, face.payload) for face in store.changes(1, 9)] == [
        ("cam-0", b"ab"), ("cam-2", b"c"), ("cam-3", b"d"), ("cam-1", b"taken!"), ("cam-9", b"n"),
    ]  # fmt: skip
    assert len({face.revision for face in store.changes(0, 9)}) == 5
    assert accept(store, 10, b"z") == ["stored"]


def test_store_shared_by_servers(store: SqlFaceStore, place: str, open_store: OpenStore) -> None:
    other = open_store(place)
    assert accept(store, 0, b"a") == ["stored"]
    assert accept(other, 0, b"ab") == ["extended"]
    assert accept(store, 0, b"ab") == ["duplicate"]
    assert accept(other, 0, b"x") == ["conflict"]


def test_page_filters(store: SqlFaceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(6):
        monkeypatch.setattr(acceptance.time, "time", lambda now=100.5 + number: now)
        accept(store, number, b"a", device="odd" if number % 2 else "even")

    def numbers(*arguments: object, **chosen: object) -> list[int]:
        return [face.sequence for face in store.page(*arguments, **chosen)]

    assert numbers(0, 9, "odd") == [1, 3, 5]
    assert numbers(0, 9, since=101.5, until=104.5) == [1, 2, 3]
    assert numbers(0, 2, "even", since=101.5) == [2, 4]
    assert numbers(store.page(0, 9)[2].row, 9, "even", until=105.0) == [4]
    assert numbers(0, 9, "nobody") == numbers(0, 9, since=106.0) == numbers(0, 9, until=100.5) == []


def test_changes_reflect_current_state(store: SqlFaceStore) -> None:
    accept(store, 0, b"a", b"b", b"c")
    seen = store.changes(0, 2)
    assert [(face.id, face.payload) for face in seen] == [("cam-0", b"a"), ("cam-1", b"b")]
    accept(store, 1, b"bb", b"c", b"d")
    accept(store, 0, b"x", device="other")
    later = store.changes(seen[-1].revision, 9)
    assert [(face.id, face.payload) for face in later] == [
        ("cam-2", b"c"), ("cam-1", b"bb"), ("cam-3", b"d"), ("other-0", b"x"),
    ]  # fmt: skip
    assert [face.id for face in store.changes(0, 9, "other")] == ["other-0"]
    assert accept(store, 0, b"a") == ["duplicate"]
    assert accept(store, 3, b"d", b"new", b"y") == ["duplicate", "stored", "stored"]
    assert accept(store, 4, b"other") == ["conflict"]
    assert [face.id for face in store.changes(later[-1].revision, 9)] == ["cam-4", "cam-5"]


def test_writers_are_serialized(store: SqlFaceStore, place: str, open_store: OpenStore) -> None:
    other, order = open_store(place), []
    with ThreadPoolExecutor(1) as threads:
        with store.writing():
            second = threads.submit(lambda: (accept(other, 0, b"a"), order.append("second")))
            with pytest.raises(TimeoutError):
                second.result(0.3)
            assert other.changes(0, 9) == []
            order.append("first")
        second.result(60)
    assert order == ["first", "second"]


def test_changes_complete_across_servers(store: SqlFaceStore, place: str, open_store: OpenStore) -> None:
    """Two servers of two threads each race for the same faces, while a third follows them."""
    servers, reader = (store, open_store(place)), open_store(place)
    faces, seen, done = 40, {}, threading.Event()

    def send(thread: int) -> list[str]:
        frames = (b"a", b"aa", b"aaa")
        return [
            outcome
            for step in range(faces)
            for outcome in accept(servers[thread % 2], (step + thread) % faces, frames[(step + thread) % 3])
        ]

    def follow() -> int:
        last, ended = 0, False
        while True:
            found = reader.changes(last, 7)
            if not found and ended:
                return last
            assert [face.revision for face in found] == sorted({face.revision for face in found})
            seen.update((face.id, face.payload) for face in found)
            ended, last = done.is_set(), found[-1].revision if found else last

    with ThreadPoolExecutor(5) as threads:
        following = threads.submit(follow)
        try:
            outcomes = [outcome for made in threads.map(send, range(4)) for outcome in made]
        finally:
            done.set()
        assert following.result(60) == outcomes.count("stored") + outcomes.count("extended")
    assert outcomes.count("stored") == faces == store.count()
    assert seen == {face.id: face.payload for face in store.page(0, 99)}


def test_accept_survives_kill(tmp_path: Path) -> None:
    path = tmp_path / "faces.db"
    program = (
        "import sys, os, signal; from pathlib import Path\n"
        "from tests.support.stored_faces import accept, device_frames\n"
        "from edge_stscq.server.storage.sql_face_store import SqlFaceStore\n"
        "store = SqlFaceStore(Path(sys.argv[1]))\n"
        "accept(store, device_frames('cam', 0, b'a', b'a', b'a'))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    store = SqlFaceStore(path)
    try:
        assert [face.id for face in store.page(0, 9)] == ["cam-0", "cam-1", "cam-2"]
    finally:
        store.close()


def test_sqlite_commit_is_durable(open_store: OpenStore, tmp_path: Path) -> None:
    with open_store(tmp_path / "faces.db")._database.write() as db:
        assert db.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert db.exec_driver_sql("PRAGMA synchronous").scalar() == 2


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_sqlite_file_mode(open_store: OpenStore, tmp_path: Path) -> None:
    accept(open_store(tmp_path / "deep" / "faces.db"), 0, b"a")
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "deep").iterdir()} == {0o600}


def test_store_foreign_file(tmp_path: Path) -> None:
    text, foreign, newer = tmp_path / "text", tmp_path / "foreign.db", tmp_path / "newer.db"
    text.write_bytes(b"not a database " * 100)
    with sqlite3.connect(foreign) as db:
        db.execute("CREATE TABLE mine (x)")
    db.close()
    SqlFaceStore(newer).close()
    with sqlite3.connect(newer) as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    for path, message in (
        (text, "not usable for the store"),
        (foreign, "another program"),
        (newer, "is of version 99"),
        (tmp_path, "cannot open the store"),
        (text / "below", "cannot open the store"),
    ):
        with pytest.raises(EdgeError, match=message):
            SqlFaceStore(path)
    assert text.read_bytes() == b"not a database " * 100


def test_open_waits_for_lock(tmp_path: Path) -> None:
    """SQLite itself refuses at once to change the journal mode of a file that another process has locked."""
    path = tmp_path / "faces.db"
    path.touch(0o600)
    holder = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    holder.execute("CREATE TABLE other (number INTEGER)")
    holder.execute("DROP TABLE other")
    holder.execute("BEGIN EXCLUSIVE")
    with ThreadPoolExecutor(1) as thread:
        opening = thread.submit(SqlFaceStore, path)
        with pytest.raises(TimeoutError):
            opening.result(0.1)
        holder.execute("COMMIT")
        holder.close()
        opening.result(60).close()


def test_find_all_keeps_order_and_leaves_out_unknown(open_store: OpenStore, place: str) -> None:
    store = open_store(place)
    stored_faces.accept(store, device_frames("cam", 0, b"a", b"b", b"c"))
    stored_faces.accept(store, device_frames("door", 7, b"d"))
    asked = ["door-7", "cam-2", "cam-9", "nobody-0", "no id", "cam-0", "cam-2", f"{device_stream_id('cam').hex()}-1"]
    assert [face.id for face in store.find_all(asked)] == ["door-7", "cam-2", "cam-0", "cam-2", "cam-1"]
    assert store.find_all([]) == []


def test_close_waits_for_a_transaction_of_another_thread(place: str) -> None:
    store, entered, read = SqlFaceStore(place), threading.Event(), list[object]()

    def work() -> None:
        with store.database.read() as db:
            entered.set()
            time.sleep(0.2)
            read.append(db.exec_driver_sql("SELECT revision FROM changes").scalar())

    thread = threading.Thread(target=work)
    thread.start()
    entered.wait()
    store.close()
    assert read == [0]
    thread.join()
