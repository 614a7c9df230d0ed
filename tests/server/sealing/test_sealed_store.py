"""A sealed store works as one in the clear does; stolen, restored or without its key it tells nothing."""

import contextlib
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_stscq.errors import EdgeError
from edge_stscq.protocol import RefusedFrame
from edge_stscq.server.maintenance.backup import backup_store, restore_store
from edge_stscq.server.maintenance.inspection import inspect_store, repair_store
from edge_stscq.server.sealing import conversion
from edge_stscq.server.sealing.conversion import seal_store
from edge_stscq.server.sealing.face_seal import FaceSeal, open_seal, refuse_index_on_disk
from edge_stscq.server.sealing.key_file import KeyFile, rotate
from edge_stscq.server.sealing.tables import LAYOUT
from edge_stscq.server.storage.database import StoreError
from edge_stscq.server.storage.face_store import FaceName, KeylessFaceError, face_name
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from edge_stscq.stream.envelope import Clock, Source, WireFrame, device_stream_id
from tests.support.stored_faces import MODEL, NOON, accept, device_frames

SECRET = b"0123456789abcdef0123456789abcdef"
OTHER = SECRET[::-1]
CAM = device_stream_id("cam")
MARK = b"a payload that nobody must find "


class Place:
    """A sealed store in a folder."""

    def __init__(self, folder: Path) -> None:
        self.store, self.keys = folder / "faces.db", folder / "apart.db"

    @property
    def seal(self) -> FaceSeal:
        return FaceSeal(KeyFile(self.keys, SECRET))

    @contextlib.contextmanager
    def open(self) -> Iterator[SqlFaceStore]:
        with contextlib.closing(SqlFaceStore(self.store, self.seal)) as store:
            yield store

    def put(self, *texts: bytes, first: int = 0) -> None:
        with self.open() as store:
            accept(store, device_frames("cam", first, *texts))

    def texts(self) -> list[bytes]:
        with self.open() as store:
            return [face.frame().payload for face in store.page(0, 999)]

    def raw(self) -> bytes:
        """All bytes of the store's files, but not of its keys'."""
        return b"".join(path.read_bytes() for path in self.store.parent.glob(f"{self.store.name}*"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    assert seal_store(made.store, made.keys, SECRET) == 0
    return made


def test_faces_come_grow_and_are_read(place: Place) -> None:
    source = Source(bytes(range(16)), "door", MODEL, clock=Clock.SYNCHRONIZED)
    whole = WireFrame(source, 7, 2, b"yz", NOON, 3, 80, b"\x01\x02ab")
    with place.open() as store:
        assert accept(store, device_frames("cam", 0, b"ab", b"c")) == ["stored", "stored"]
        assert accept(store, device_frames("cam", 0, b"abc", b"c")) == ["extended", "duplicate"]
        assert accept(store, [whole]) == ["stored"]
        (refused,) = accept(store, device_frames("cam", 1, b"xyz"))
        assert isinstance(refused, RefusedFrame)
        assert [face.frame().payload for face in store.page(0, 9)] == [b"abc", b"c", b"yz"]
        assert [face.frame().payload for face in store.changes(0, 9)] == [b"c", b"abc", b"yz"]  # type: ignore[union-attr]
        found = store.find(face_name("door", source.stream_id, 7))
        assert found is not None
        assert found.frame() == whole
        plain = {stats.device: (stats.faces, stats.bytes, stats.recent_bytes) for stats in store.devices(0.0)}
    assert plain == {"cam": (2, 4 + 2 * 6, 4 + 2 * 6), "door": (1, 2 + 6, 2 + 6)}
    assert inspect_store(place.store, seal=place.seal).whole
    assert len(place.seal.keys) == 3  # a late layer is under the key of its face


def test_stolen_store_tells_nothing(place: Place) -> None:
    texts = [MARK + bytes([65 + number]) for number in range(9)]
    source = Source(bytes(range(16)), "door", MODEL)
    with contextlib.closing(SqlFaceStore(place.store, place.seal)) as store:
        accept(store, [WireFrame(source, number, 1, text, extensions=b"\x01\x08secrecy!") for number, text in
                       enumerate(texts)])  # fmt: skip
        checksums = [face.checksum for face in store.page(0, 99)]
        raw = place.raw()  # with the log, which is not in the file yet
        store.erase([FaceName(source.stream_id, 3)])
        raw += place.raw()
    raw += place.raw()
    assert MARK[:8] not in raw
    assert b"secrecy!" not in raw
    assert SECRET not in raw + place.keys.read_bytes()
    with sqlite3.connect(place.store) as db:
        stored = [checksum for (checksum,) in db.execute("SELECT checksum FROM faces")]
    assert not set(stored) & set(checksums)


@pytest.mark.parametrize("erased", [False, True])
def test_sealing_a_store_leaves_nothing_in_the_clear(tmp_path: Path, erased: bool) -> None:
    place = Place(tmp_path)
    with contextlib.closing(SqlFaceStore(place.store)) as store:
        source = Source(CAM, "cam", MODEL)
        accept(store, [WireFrame(source, number, 1, MARK + b"%d" % number) for number in range(60)])
        if erased:
            store.erase([FaceName(CAM, number) for number in range(0, 60, 2)])
        before = [(face.row, face.id, face.revision, face.received, face.frame()) for face in store.page(0, 99)]
    assert MARK in place.raw()
    assert seal_store(place.store, place.keys, SECRET) == len(before)
    assert MARK not in place.raw()
    assert seal_store(place.store, place.keys, SECRET) == 0
    with place.open() as store:
        assert [(face.row, face.id, face.revision, face.received, face.frame()) for face in store.page(0, 99)] == before
    assert inspect_store(place.store, seal=place.seal).whole


def test_sealing_that_was_cut_off_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path)
    with contextlib.closing(SqlFaceStore(place.store)) as store:
        accept(store, device_frames("cam", 0, *[b"text"] * 7))
    monkeypatch.setattr(conversion, "BUNDLE", 2)

    def cut(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        seal_store(place.store, place.keys, SECRET, cut)
    with pytest.raises(EdgeError, match="not sealed yet"):
        SqlFaceStore(place.store, place.seal)
    with pytest.raises(EdgeError, match="is sealed"):
        SqlFaceStore(place.store)
    assert seal_store(place.store, place.keys, SECRET) == 5
    assert place.texts() == [b"text"] * 7


def test_server_that_has_the_store_open_writes_nothing_in_the_clear(tmp_path: Path) -> None:
    place = Place(tmp_path)
    with contextlib.closing(SqlFaceStore(place.store)) as before:
        accept(before, device_frames("cam", 0, b"a"))
        seal_store(place.store, place.keys, SECRET)
        with pytest.raises(StoreError, match="sealed meanwhile"):
            accept(before, device_frames("cam", 1, b"b"))
        (face,) = before.page(0, 9)
        with pytest.raises(KeylessFaceError):
            face.frame()


def test_store_without_its_key_reads_nothing(place: Place, tmp_path: Path) -> None:
    place.put(b"a")
    with pytest.raises(EdgeError, match="is sealed and cannot be read without its key"):
        SqlFaceStore(place.store)
    with pytest.raises(EdgeError, match="hangs on another secret"):
        KeyFile(place.keys, OTHER)
    with pytest.raises(EdgeError, match="keys of another file"):
        SqlFaceStore(place.store, FaceSeal(KeyFile.create(tmp_path / "other.db", SECRET)))
    with pytest.raises(EdgeError, match="there is no key file"):
        KeyFile(tmp_path / "absent.db", SECRET)
    assert not (tmp_path / "absent.db").exists()
    with pytest.raises(EdgeError, match="there is no key file"):
        rotate(tmp_path / "absent.db", SECRET, OTHER)
    place.keys.chmod(0o640)
    with pytest.raises(EdgeError, match="chmod 600"):
        KeyFile(place.keys, SECRET)
    place.keys.chmod(0o600)
    assert place.keys.stat().st_mode & 0o777 == 0o600
    with pytest.raises(EdgeError, match="is sealed"):
        repair_store(place.store)
    assert place.texts() == [b"a"]


def test_store_in_the_clear_refuses_a_seal(tmp_path: Path) -> None:
    SqlFaceStore(tmp_path / "faces.db").close()
    with pytest.raises(EdgeError, match="is not sealed"):
        SqlFaceStore(tmp_path / "faces.db", FaceSeal(KeyFile.create(tmp_path / "keys.db", SECRET)))
    with pytest.raises(EdgeError, match="--seal"):
        open_seal(None, tmp_path / "keys.db", tmp_path / "faces.db")


def test_keys_of_another_store_are_refused(place: Place, tmp_path: Path) -> None:
    place.put(b"a")
    with pytest.raises(EdgeError, match="keys of another store"):
        seal_store(tmp_path / "second.db", place.keys, SECRET)


@pytest.mark.parametrize("column", ["sequence", "stream", "device", "received", "layers", "track", "payload", "sealed"])
def test_row_that_was_changed_or_moved_is_unreadable(place: Place, column: str) -> None:
    place.put(b"ab", b"cd")
    values = {"sequence": "9", "stream": "zeroblob(16)", "device": "'door'", "received": "received - 1", "layers": "1",
              "track": "5", "payload": "(SELECT payload FROM faces WHERE sequence = 1)", "sealed": "0"}  # fmt: skip
    with contextlib.closing(sqlite3.connect(place.store)) as db, db:
        db.execute(f"UPDATE faces SET {column} = {values[column]} WHERE sequence = 0")
    found = inspect_store(place.store, seal=place.seal)
    assert len(found.damaged) + len(found.keyless) == 1
    with place.open() as store:
        assert accept(store, device_frames("cam", 0, b"ab"))[0] in ("extended", "stored")  # its camera mends it


def test_erased_face_cannot_be_read_from_an_older_backup(place: Place, tmp_path: Path) -> None:
    place.put(b"stays", b"goes", b"ages")
    backup_store(place.store, tmp_path / "copy.db", place.seal)
    with place.open() as store:
        assert store.erase([FaceName(CAM, 1)]) == 1
        assert store.erase([FaceName(CAM, 2)], lasting=False) == 1
        store.scrub()
    assert len(place.seal.keys) == 1
    found = inspect_store(tmp_path / "copy.db", seal=place.seal)
    assert (found.faces, found.keyless) == (1, ["cam-1", "cam-2"])
    restored = restore_store(tmp_path / "copy.db", place.store, place.seal)
    assert (restored.faces, restored.erased, restored.keyless) == (1, 2, 1)
    assert place.texts() == [b"stays"]
    with place.open() as store:
        results = accept(store, device_frames("cam", 1, b"goes", b"ages"))
    assert isinstance(results[0], RefusedFrame)
    assert results[1] == "stored"


def test_backup_restored_where_the_store_is_lost(place: Place, tmp_path: Path) -> None:
    place.put(b"stays", b"goes")
    backup_store(place.store, tmp_path / "copy.db", place.seal)
    with place.open() as store:
        for number in (1, 5, 6):
            accept(store, device_frames("cam", number, b"goes"))
            store.erase([FaceName(CAM, number)])
    for path in tmp_path.glob("faces.db*"):
        path.unlink()
    restored = restore_store(tmp_path / "copy.db", place.store, place.seal)
    assert (restored.faces, restored.keyless) == (1, 1)
    with place.open() as store:  # its revisions are behind those of the key file
        store.erase([FaceName(CAM, 0)])
    assert len(place.seal.keys) == 0


def test_backup_without_its_keys_is_refused(place: Place, tmp_path: Path) -> None:
    place.put(b"a")
    backup_store(place.store, tmp_path / "copy.db", place.seal)
    with pytest.raises(EdgeError, match="is sealed"):
        restore_store(tmp_path / "copy.db", tmp_path / "new.db")
    assert not (tmp_path / "new.db").exists()
    assert place.keys.name not in {path.name for path in tmp_path.glob("copy*")}


def test_erasure_whose_process_died_takes_the_key_later(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.put(b"a", b"b")
    with place.open() as store, monkeypatch.context() as patched:
        patched.setattr(store, "forget_keys", lambda: None)
        store.erase([FaceName(CAM, 0)])
    seal = place.seal
    assert len(seal.keys) == 2
    with place.open():
        assert len(seal.keys) == 1


def test_repair_of_a_sealed_store(place: Place) -> None:
    place.put(b"a", b"bc", b"def")
    with contextlib.closing(sqlite3.connect(place.store)) as db, db:
        db.execute("UPDATE faces SET payload = zeroblob(40) WHERE sequence = 1")
    done = repair_store(place.store, seal=place.seal)
    assert (done.kept, [one.id for one in done.lost]) == (2, ["cam-1"])
    assert place.texts() == [b"a", b"def"]
    assert inspect_store(place.store, seal=place.seal).whole


def test_rotate_to_another_secret(place: Place) -> None:
    place.put(b"a", b"b")
    with place.open() as before:
        assert rotate(place.keys, SECRET, OTHER) == 2
        with pytest.raises(StoreError, match="rotated"):
            before.page(0, 9)
        with pytest.raises(StoreError, match="rotated"):
            accept(before, device_frames("cam", 5, b"new"))
    with pytest.raises(EdgeError, match="another secret"):
        KeyFile(place.keys, SECRET)
    with contextlib.closing(SqlFaceStore(place.store, FaceSeal(KeyFile(place.keys, OTHER)))) as store:
        assert [face.frame().payload for face in store.page(0, 9)] == [b"a", b"b"]
    with pytest.raises(EdgeError, match="the old one"):
        rotate(place.keys, OTHER, OTHER)


def test_rotation_killed_goes_on(place: Place) -> None:
    place.put(*[b"text"] * 10)
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom edge_stscq.server.sealing import key_file\n"
        "key_file.BUNDLE = 3\n"
        f"key_file.rotate(Path(sys.argv[1]), {SECRET!r}, {OTHER!r}, lambda n: os.kill(os.getpid(), signal.SIGKILL))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(place.keys)], check=False)
    assert done.returncode == -signal.SIGKILL
    for secret in (SECRET, OTHER):
        with pytest.raises(EdgeError, match="rotation of .* was cut off"):
            KeyFile(place.keys, secret)
    with pytest.raises(EdgeError, match="another secret"):
        rotate(place.keys, SECRET, b"x" * 32)
    assert rotate(place.keys, SECRET, OTHER) == 7
    with contextlib.closing(SqlFaceStore(place.store, FaceSeal(KeyFile(place.keys, OTHER)))) as store:
        assert [face.frame().payload for face in store.page(0, 99)] == [b"text"] * 10


def test_rotation_names_a_damaged_key(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.put(b"a", b"b")
    with contextlib.closing(sqlite3.connect(place.keys)) as db, db:
        db.execute("UPDATE keys SET wrapped = zeroblob(60) WHERE sequence = 1")
    found = inspect_store(place.store, seal=place.seal)
    assert found.keyless == ["cam-1"]
    with pytest.raises(EdgeError, match="key of face .*-1 is damaged"):
        rotate(place.keys, SECRET, OTHER)


def test_many_faces_of_many_streams(place: Place) -> None:
    """Numbers far apart, which are asked for one by one, and more of them than one query names."""
    frames = [WireFrame(Source(bytes([stream] * 16), f"cam-{stream}", MODEL), number * 1000, 1, b"%d" % number)
              for stream in range(3) for number in range(600)]  # fmt: skip
    with place.open() as store:
        accept(store, frames)
        assert [face.frame() for face in store.page(0, 9999)] == frames
        assert set(accept(store, frames)) == {"duplicate"}


def test_index_on_disk_is_refused_by_name(place: Place) -> None:
    refuse_index_on_disk(None, "match_index = pgvector")
    with pytest.raises(EdgeError, match="match_index = pgvector would lay match vectors"):
        refuse_index_on_disk(place.seal, "match_index = pgvector")


def test_layout_of_the_key_file_is_that_of_its_steps(tmp_path: Path) -> None:
    KeyFile.create(tmp_path / "keys.db", SECRET).close()
    with contextlib.closing(sqlite3.connect(tmp_path / "keys.db")) as db:
        for table in LAYOUT.metadata.tables.values():
            columns = [
                (name, bool(required)) for _, name, _, required, *_ in db.execute(f"PRAGMA table_info({table.name})")
            ]
            assert columns == [(column.name, not column.nullable) for column in table.columns]
