"""What was accepted survives, once; what is not a store is left alone."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edge_stscq.errors import EdgeError
from edge_stscq.server.store import ConflictError, DeviceTally, FaceStore, NewFrame

MODEL = b"12345678"


def same(old: bytes, new: bytes) -> bool:
    """Frames of these tests are text whose shorter form is a prefix."""
    return old.startswith(new) or new.startswith(old)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FaceStore]:
    store = FaceStore(tmp_path / "deep" / "faces.db")
    yield store
    store.close()


def accept(store: FaceStore, first: int, *frames: bytes) -> list[str]:
    return store.accept("cam", first, MODEL, [NewFrame(frame, len(frame)) for frame in frames], same)


def test_a_frame_is_stored_extended_and_never_shortened(store: FaceStore) -> None:
    assert accept(store, 5, b"ab", b"x") == ["stored", "stored"]
    assert accept(store, 5, b"ab", b"xyz") == ["duplicate", "extended"]
    assert accept(store, 5, b"a", b"x") == ["duplicate", "duplicate"]
    assert [(face.id, face.frame, face.layers) for face in store.page(0, 9)] == [
        ("cam-5", b"ab", 2),
        ("cam-6", b"xyz", 3),
    ]


def test_another_face_under_a_taken_number_refuses_the_whole_request(store: FaceStore) -> None:
    accept(store, 7, b"a")
    with pytest.raises(ConflictError, match="cam-7 is already another face; the next free .* of cam is 8"):
        accept(store, 6, b"new", b"b")
    assert [face.id for face in store.page(0, 9)] == ["cam-7"]
    with pytest.raises(ConflictError):
        store.accept("cam", 7, b"87654321", [NewFrame(b"a", 1)], same)


def test_a_face_is_found_by_its_one_true_name(store: FaceStore) -> None:
    store.accept("cam-1", 2, MODEL, [NewFrame(b"a", 1)], same)
    found = store.find("cam-1-2")
    assert found is not None
    assert (found.device, found.sequence, found.model) == ("cam-1", 2, MODEL)
    for name in ("cam-1-02", "cam-1-3", "cam-1", "cam-1-", "", "-", "cam-1-٢", "cam-1--2", "cam-1-" + "9" * 5000):
        assert store.find(name) is None


def test_pages_follow_each_other(store: FaceStore) -> None:
    accept(store, 0, *(b"a" for _ in range(5)))
    first = store.page(0, 3)
    assert [face.sequence for face in first + store.page(first[-1].row, 3)] == [0, 1, 2, 3, 4]


def test_changes_come_in_the_order_in_which_they_were_made(store: FaceStore) -> None:
    assert (store.latest_revision(), store.changes(0, 9)) == (0, [])
    accept(store, 0, b"a", b"x")
    store.accept("door", 0, MODEL, [NewFrame(b"d", 1)], same)
    assert [(face.id, face.revision) for face in store.changes(0, 9)] == [("cam-0", 1), ("cam-1", 2), ("door-0", 3)]
    accept(store, 0, b"ab", b"x")
    assert [(face.id, face.revision) for face in store.changes(1, 9)] == [("cam-1", 2), ("door-0", 3), ("cam-0", 4)]
    assert [face.id for face in store.changes(1, 2)] == ["cam-1", "door-0"]
    assert [face.id for face in store.changes(0, 9, "door")] == ["door-0"]
    assert store.latest_revision() == 4


def test_devices_are_tallied(store: FaceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for now, device, first, frame in ((10.0, "cam", 0, b"ab"), (20.0, "cam", 1, b"abc"), (15.0, "door", 0, b"a")):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        store.accept(device, first, MODEL, [NewFrame(frame, len(frame))], same)
    cam, door = DeviceTally("cam", 2, 5, 20.0, 1, 3), DeviceTally("door", 1, 1, 15.0, 1, 1)
    assert store.devices(15.0) == [cam, door]
    assert store.devices(15.0, "door") == [door]
    assert store.devices(0.0, "nobody") == []


def test_the_same_frame_from_many_threads_is_stored_once(store: FaceStore) -> None:
    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(lambda _: accept(store, 0, b"a")[0], range(32)))
    assert sorted(outcomes) == ["duplicate"] * 31 + ["stored"]
    assert store.count() == 1


def test_two_processes_may_share_a_store(store: FaceStore, tmp_path: Path) -> None:
    other = FaceStore(tmp_path / "deep" / "faces.db")
    try:
        assert accept(store, 0, b"a") == ["stored"]
        assert accept(other, 0, b"a") == ["duplicate"]
    finally:
        other.close()


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "faces.db"
    program = (
        "import sys, os, signal; from pathlib import Path; from edge_stscq.server.store import FaceStore, NewFrame\n"
        "store = FaceStore(Path(sys.argv[1]))\n"
        "store.accept('cam', 0, b'12345678', [NewFrame(b'a', 1)] * 3, lambda old, new: True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    store = FaceStore(path)
    try:
        assert [face.id for face in store.page(0, 9)] == ["cam-0", "cam-1", "cam-2"]
    finally:
        store.close()


def test_every_commit_reaches_the_disk(store: FaceStore) -> None:
    assert store._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store._db.execute("PRAGMA synchronous").fetchone() == (2,)


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_faces_are_for_the_owner_only(store: FaceStore, tmp_path: Path) -> None:
    accept(store, 0, b"a")
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "deep").iterdir()} == {0o600}


def test_a_foreign_file_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    text, foreign, newer = tmp_path / "text", tmp_path / "foreign.db", tmp_path / "newer.db"
    text.write_bytes(b"not a database " * 100)
    with sqlite3.connect(foreign) as db:
        db.execute("CREATE TABLE mine (x)")
    db.close()
    FaceStore(newer).close()
    with sqlite3.connect(newer) as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    for path, message in (
        (text, "not usable as a store"),
        (foreign, "another program"),
        (newer, "store version 99"),
        (tmp_path, "cannot open the store"),
        (text / "below", "cannot open the store"),
    ):
        with pytest.raises(EdgeError, match=message):
            FaceStore(path)
    assert text.read_bytes() == b"not a database " * 100
