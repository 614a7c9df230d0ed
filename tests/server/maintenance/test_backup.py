"""A backup is whole and of one moment; restored, it brings no erased face back."""

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_stscq.errors import EdgeError
from edge_stscq.server.maintenance.backup import backup_store, restore_store
from edge_stscq.server.storage.erasure import erased_times_of
from edge_stscq.server.storage.face_store import FaceName
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from edge_stscq.stream.envelope import device_stream_id
from tests.support.stored_faces import accept, device_frames

OpenStore = Callable[[Path | str], SqlFaceStore]
CAM = device_stream_id("cam")


def names(path: Path) -> list[str]:
    with contextlib.closing(SqlFaceStore(path)) as store:
        return [face.id for face in store.page(0, 99)]


def test_backup_beside_a_writer_is_of_one_moment(tmp_path: Path, open_store: OpenStore) -> None:
    store, stop, count = open_store(tmp_path / "faces.db"), threading.Event(), 0

    def write() -> None:
        nonlocal count
        while not stop.is_set():
            accept(store, device_frames("cam", count, b"a", b"b"))
            count += 2

    writer = threading.Thread(target=write)
    writer.start()
    try:
        copies = [backup_store(tmp_path / "faces.db", tmp_path / f"copy{number}.db") for number in range(3)]
    finally:
        stop.set()
        writer.join()
    for number, faces in enumerate(copies):
        found = names(tmp_path / f"copy{number}.db")[:99]
        assert faces % 2 == 0
        assert found == [f"cam-{at}" for at in range(faces)][:99]
    assert (tmp_path / "copy0.db").stat().st_mode & 0o777 == 0o600
    assert not list(tmp_path.glob(".*partial*"))


def test_restore_keeps_erased_faces_away(tmp_path: Path, open_store: OpenStore) -> None:
    path, copy = tmp_path / "faces.db", tmp_path / "copy.db"
    store = open_store(path)
    accept(store, device_frames("cam", 0, b"a", b"SECRETTEMPLATE!", b"c"))
    backup_store(path, copy)
    accept(store, device_frames("cam", 3, b"later", b"gone"))
    store.erase([FaceName(CAM, 1), FaceName(CAM, 4)])
    store.keep_away("cam", 0, 1)
    last = store.latest_revision()
    with pytest.raises(EdgeError, match="is in use; stop the servers"):
        restore_store(copy, path)
    store.close()
    done = restore_store(copy, path)
    assert (done.faces, done.erased) == (2, 1)
    assert names(path) == ["cam-0", "cam-2"]
    assert b"SECRETTEMPLATE!" not in path.read_bytes()
    with contextlib.closing(SqlFaceStore(path)) as again:
        assert again.latest_revision() > last
        with again.database.read() as db:
            assert erased_times_of(db) == {"cam": [(0, 1)]}
        for number, text in ((1, b"SECRETTEMPLATE!"), (4, b"gone")):
            assert [result.code for result in accept(again, device_frames("cam", number, text))] == ["erased"]
        assert accept(again, device_frames("cam", 3, b"later")) == ["stored"], "what was only lost may come again"
    assert names(Path(done.moved)) == ["cam-0", "cam-2", "cam-3"]


def test_restore_to_a_new_place(tmp_path: Path, open_store: OpenStore) -> None:
    store = open_store(tmp_path / "faces.db")
    accept(store, device_frames("cam", 0, b"a"))
    backup_store(tmp_path / "faces.db", tmp_path / "copy.db")
    done = restore_store(tmp_path / "copy.db", tmp_path / "other.db")
    assert (done.moved, names(tmp_path / "other.db")) == (None, ["cam-0"])


@pytest.mark.parametrize("content", [b"", b"no database " * 1000, None])
def test_restore_refuses_what_is_no_backup(tmp_path: Path, open_store: OpenStore, content: bytes | None) -> None:
    path, copy = tmp_path / "faces.db", tmp_path / "copy.db"
    store = open_store(path)
    accept(store, device_frames("cam", 0, b"a"))
    store.close()
    if content is None:
        backup_store(path, copy)
        data = bytearray(copy.read_bytes())
        at = data.index(CAM)
        data[at] ^= 1
        copy.write_bytes(data)
    else:
        copy.write_bytes(content)
    with pytest.raises(EdgeError):
        restore_store(copy, path)
    assert sorted({found.name.partition("-")[0] for found in tmp_path.iterdir()}) == ["copy.db", "faces.db"]
    assert names(path) == ["cam-0"]


def test_backup_of_damage_is_refused(tmp_path: Path, open_store: OpenStore) -> None:
    store = open_store(tmp_path / "faces.db")
    accept(store, device_frames("cam", 0, b"a"))
    with store._database.write() as db:
        db.exec_driver_sql("UPDATE faces SET layers = 9")
    with pytest.raises(EdgeError, match="is damaged and not backed up"):
        backup_store(tmp_path / "faces.db", tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


def test_backup_leaves_what_is_there(tmp_path: Path, open_store: OpenStore) -> None:
    open_store(tmp_path / "faces.db")
    (tmp_path / "copy.db").write_text("mine")
    with pytest.raises(EdgeError, match="exists; choose another"):
        backup_store(tmp_path / "faces.db", tmp_path / "copy.db")
    assert (tmp_path / "copy.db").read_text() == "mine"
