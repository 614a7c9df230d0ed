"""Copies of the key file: kept for some days, and put back without the keys of what was erased since."""

import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_stscq.errors import EdgeError
from edge_stscq.server.maintenance.backup import backup_store, restore_store
from edge_stscq.server.maintenance.inspection import inspect_store
from edge_stscq.server.sealing.conversion import seal_store
from edge_stscq.server.sealing.key_copies import backup_keys, restore_keys
from edge_stscq.server.sealing.key_file import KeyFile, rotate
from edge_stscq.server.storage.face_store import FaceName
from tests.server.sealing.test_sealed_store import CAM, OTHER, SECRET, Place
from tests.support.stored_faces import accept, device_frames


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    seal_store(made.store, made.keys, SECRET)
    return made


def lose(keys: Path) -> None:
    for path in keys.parent.glob(f"{keys.name}*"):
        path.unlink()


def test_backups_of_keys_are_kept_for_a_time(place: Place, tmp_path: Path) -> None:
    place.put(b"a", b"b")
    folder = tmp_path / "keys"
    day = 86400.0
    first = backup_keys(place.keys, SECRET, folder, 30, now=1.7e9)
    (folder / "other.txt").write_text("mine")
    second = backup_keys(place.keys, SECRET, folder, 30, now=1.7e9 + 30 * day)
    assert (first.keys, second.removed) == (2, [])
    third = backup_keys(place.keys, SECRET, folder, 30, now=1.7e9 + 31 * day)
    assert third.removed == [first.backup]
    assert sorted(map(str, folder.iterdir())) == sorted([second.backup, third.backup, str(folder / "other.txt")])
    assert Path(third.backup).stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    with place.open() as store:
        store.erase([FaceName(CAM, 0)])
    os.replace(third.backup, place.keys)  # a copy of the keys, put back: what was erased since goes again
    place.keys.with_name("apart.db-wal").unlink(missing_ok=True)
    place.keys.with_name("apart.db-shm").unlink(missing_ok=True)
    assert place.texts() == [b"b"]
    assert len(place.seal.keys) == 1


def test_lost_keys_are_put_back_without_those_of_erased_faces(place: Place, tmp_path: Path) -> None:
    place.put(b"stays", b"goes")
    copy = Path(backup_keys(place.keys, SECRET, tmp_path / "keys", 30).backup)
    before = copy.read_bytes()
    with place.open() as store:
        store.erase([FaceName(CAM, 1)])
        accept(store, device_frames("cam", 2, b"late"))
    backup_store(place.store, tmp_path / "copy.db", place.seal)
    lose(place.keys)
    done = restore_keys(copy, place.keys, SECRET, place.store)
    assert (done.keys, done.erased, done.moved) == (1, 1, None)
    assert place.keys.stat().st_mode & 0o777 == 0o600
    assert copy.read_bytes() == before
    assert [path.name for path in (tmp_path / "keys").iterdir()] == [copy.name]
    found = inspect_store(place.store, seal=place.seal)
    assert (found.faces, found.keyless) == (1, ["cam-2"])
    assert place.seal.keys.numbers(CAM) == [0]
    with place.open() as store:
        assert accept(store, device_frames("cam", 2, b"late")) == ["extended"], "its camera sends it again"
    assert place.texts() == [b"stays", b"late"]
    assert not list(tmp_path.glob("*restoring*"))


def test_keys_and_store_are_lost_together(place: Place, tmp_path: Path) -> None:
    place.put(b"a", b"b")
    copy = Path(backup_keys(place.keys, SECRET, tmp_path / "keys", 30).backup)
    backup_store(place.store, tmp_path / "copy.db", place.seal)
    lose(place.keys)
    lose(place.store)
    with pytest.raises(EdgeError, match="there is no key file .*store restore-keys COPY"):
        restore_store(tmp_path / "copy.db", place.store, place.seal)
    assert restore_keys(copy, place.keys, SECRET, place.store).keys == 2
    assert not place.store.exists()
    assert restore_store(tmp_path / "copy.db", place.store, place.seal).faces == 2
    assert place.texts() == [b"a", b"b"]


def test_secret_that_is_lost_after_a_rotation_leaves_the_copy(place: Place, tmp_path: Path) -> None:
    place.put(b"a")
    copy = Path(backup_keys(place.keys, SECRET, tmp_path / "keys", 30).backup)
    rotate(place.keys, SECRET, OTHER)
    done = restore_keys(copy, place.keys, SECRET, place.store)
    assert done.moved is not None
    assert len(KeyFile(Path(done.moved), OTHER)) == 1
    assert place.texts() == [b"a"]


def damage(copy: Path) -> None:
    copy.write_bytes(b"SQLite format 3\0" + os.urandom(5000))


def another_store(copy: Path) -> None:
    lose(copy)
    KeyFile.create(copy, SECRET).close()


def another_program(copy: Path) -> None:
    lose(copy)
    with contextlib.closing(sqlite3.connect(copy)) as db, db:
        db.execute("CREATE TABLE mine (x)")
    copy.chmod(0o600)


@pytest.mark.parametrize(("change", "secret", "message"), [
    (damage, SECRET, "cannot put .* in the place of .*check both"),
    (another_store, SECRET, "is sealed by keys of another file"),
    (another_program, SECRET, "another program"),
    (Path.unlink, SECRET, "cannot read the key file .*No such file"),
    (lambda copy: copy.chmod(0o644), SECRET, "chmod 600"),
    (lambda copy: None, OTHER, "keys-.*.db hangs on another secret"),
])  # fmt: skip
def test_copy_that_cannot_be_used_is_refused(
    place: Place, tmp_path: Path, change: Callable[[Path], None], secret: bytes, message: str
) -> None:
    place.put(b"a")
    copy = Path(backup_keys(place.keys, SECRET, tmp_path / "keys", 30).backup)
    change(copy)
    kept = place.keys.rename(tmp_path / "kept.db")
    for path in tmp_path.glob("apart.db-*"):
        path.unlink()
    with pytest.raises(EdgeError, match=message) as caught:
        restore_keys(copy, place.keys, secret, place.store)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("apart.db*"))
    kept.rename(place.keys)
    assert place.texts() == [b"a"]


def test_keys_that_can_be_read_are_not_replaced(place: Place, tmp_path: Path) -> None:
    place.put(b"a")
    copy = Path(backup_keys(place.keys, SECRET, tmp_path / "keys", 30).backup)
    place.put(b"b", first=1)
    with pytest.raises(EdgeError, match="can be read, and is newer than any copy"):
        restore_keys(copy, place.keys, SECRET, place.store)
    assert place.texts() == [b"a", b"b"]
