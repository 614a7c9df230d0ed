"""A sealed store in PostgreSQL: as a SQLite file is, with its keys in a file of the server's machine."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from benchmarks.postgres import Cluster
from edge_stscq.errors import EdgeError
from edge_stscq.protocol import RefusedFrame
from edge_stscq.server.maintenance.inspection import inspect_store
from edge_stscq.server.persons.editing import PersonStore
from edge_stscq.server.persons.reading import Enrolled
from edge_stscq.server.sealing.conversion import seal_store
from edge_stscq.server.sealing.face_seal import FaceSeal, key_path
from edge_stscq.server.sealing.key_file import KeyFile, rotate
from edge_stscq.server.storage.database import StoreError
from edge_stscq.server.storage.face_store import FaceName
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from edge_stscq.stream.envelope import Source, WireFrame, device_stream_id
from tests.support.stored_faces import MODEL, accept, device_frames

SECRET = b"0123456789abcdef0123456789abcdef"
CAM = device_stream_id("cam")
MARK = b"a payload that nobody must find "
pytestmark = pytest.mark.slow


@pytest.fixture
def url(postgres: Cluster, request: pytest.FixtureRequest) -> str:
    return postgres.new_database(request.node.name)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys.db"


@contextlib.contextmanager
def opened(url: str, keys: Path, secret: bytes = SECRET) -> Iterator[SqlFaceStore]:
    with contextlib.closing(SqlFaceStore(url, FaceSeal(KeyFile(keys, secret)))) as store:
        yield store


def on_disk(postgres: Cluster) -> bytes:
    """All that the tables' files hold, of every database; not the write-ahead log."""
    with psycopg.connect(postgres.url().replace("+psycopg", ""), autocommit=True) as db:
        db.execute("CHECKPOINT")
    return b"".join(path.read_bytes() for path in (postgres.folder / "data/base").rglob("*") if path.is_file())


def test_sealed_postgres_stores_extends_and_erases(url: str, keys: Path) -> None:
    assert seal_store(url, keys, SECRET) == 0
    with opened(url, keys) as store, opened(url, keys) as other:
        assert accept(store, device_frames("cam", 0, b"ab", b"c")) == ["stored", "stored"]
        assert accept(other, device_frames("cam", 0, b"abc", b"c")) == ["extended", "duplicate"]
        assert [face.frame().payload for face in store.page(0, 9)] == [b"abc", b"c"]
        assert other.erase([FaceName(CAM, 0)]) == 1
        store.scrub()
        (again,) = accept(store, device_frames("cam", 0, b"abc"))
        assert isinstance(again, RefusedFrame)
    with contextlib.closing(KeyFile(keys, SECRET)) as left:
        assert left.numbers(CAM) == [1]
    assert inspect_store(url, seal=FaceSeal(KeyFile(keys, SECRET))).whole


def test_sealing_postgres_leaves_nothing_in_the_clear(postgres: Cluster, url: str, keys: Path) -> None:
    with contextlib.closing(SqlFaceStore(url)) as before:
        source = Source(CAM, "cam", MODEL)
        accept(before, [WireFrame(source, number, 1, MARK + b"%d" % number) for number in range(600)])
        PersonStore(before).enroll("Zebulon the tall", [Enrolled(MODEL, 1, MARK, 80)])
        found = on_disk(postgres)
        assert MARK in found
        assert b"Zebulon" in found
        assert seal_store(url, keys, SECRET) == 600
        with pytest.raises(StoreError, match="sealed meanwhile"):
            accept(before, device_frames("cam", 900, b"b"))
    found = on_disk(postgres)
    assert MARK not in found
    assert b"Zebulon" not in found
    with opened(url, keys) as store:
        assert [face.frame().payload for face in store.page(0, 999)] == [MARK + b"%d" % at for at in range(600)]
        (person,) = PersonStore(store).persons(9)
        assert (person.name, person.enrolled) == ("Zebulon the tall", 1)
        PersonStore(store).forget(person.id)
    assert KeyFile(keys, SECRET).numbers(b"person") == []


def test_sealed_postgres_without_its_keys_is_refused(url: str, keys: Path, tmp_path: Path) -> None:
    seal_store(url, keys, SECRET)
    with pytest.raises(EdgeError, match="is sealed and cannot be read without its key") as caught:
        SqlFaceStore(url)
    assert "\n" not in str(caught.value)
    with pytest.raises(EdgeError, match="keys of another file"):
        SqlFaceStore(url, FaceSeal(KeyFile.create(tmp_path / "other.db", SECRET)))
    keys.unlink()
    with pytest.raises(EdgeError, match="there is no key file .*restore-keys"):
        KeyFile(keys, SECRET)


def test_rotation_of_the_keys_of_postgres(url: str, keys: Path) -> None:
    seal_store(url, keys, SECRET)
    with opened(url, keys) as before:
        accept(before, device_frames("cam", 0, b"a", b"b"))
        assert rotate(keys, SECRET, SECRET[::-1]) == 2
        with pytest.raises(StoreError, match="rotated"):
            before.page(0, 9)
    with opened(url, keys, SECRET[::-1]) as store:
        assert [face.frame().payload for face in store.page(0, 9)] == [b"a", b"b"]


def test_keys_of_postgres_are_in_the_current_folder(url: str) -> None:
    assert key_path(None, url) == Path("keys.db")
