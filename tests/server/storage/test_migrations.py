"""Every earlier layout becomes today's without loss; the tables and the steps that make them agree."""

import contextlib
import sqlite3
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import Column, Connection, Integer, create_engine, inspect, text

from edge_stscq.errors import EdgeError
from edge_stscq.server.storage import layout
from edge_stscq.server.storage import tables as schema
from edge_stscq.server.storage.database import Database, store_url
from edge_stscq.server.storage.face_store import DamagedFaceError, StoredFace
from edge_stscq.server.storage.layout import VERSION_TABLE
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from edge_stscq.server.storage.tables import LAYOUT
from edge_stscq.stream._varint import encode_varint
from edge_stscq.stream.envelope import Source, WireFrame, device_stream_id
from tests.support.stored_faces import MODEL, accept, device_frames

OpenStore = Callable[[Path | str], SqlFaceStore]
Earlier = Callable[[str, str, list[dict[str, object]]], None]


def frame_1(payload: bytes, layers: int, model: bytes = MODEL) -> bytes:
    """A frame of version 1, as the stores of its time kept it."""
    body = bytes([layers]) + encode_varint(len(payload)) + payload
    return body + zlib.crc32(body, zlib.crc32(model)).to_bytes(4, "little")


FIRST_LAYOUT = f"""
CREATE TABLE faces (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    device TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    model BLOB NOT NULL,
    layers INTEGER NOT NULL,
    frame BLOB NOT NULL,
    received REAL NOT NULL,
    UNIQUE (device, sequence)
) STRICT;
PRAGMA application_id=1398035281;
PRAGMA user_version=1;
INSERT INTO faces VALUES
    (1, 'cam', 7, x'{MODEL.hex()}', 1, x'{frame_1(b"a", 1).hex()}', 100.25),
    (4, 'b', 0, x'00', 3, x'616263', 99);
"""
"""Rows as the first release wrote them."""


@pytest.fixture
def earlier(monkeypatch: pytest.MonkeyPatch) -> Earlier:
    """`earlier(place, revision, rows)`: make a store of an earlier layout, with these rows."""

    def make(place: str, revision: str, rows: list[dict[str, object]]) -> None:
        def stop(config: object, wanted: str, upgrade: Callable[..., None] = command.upgrade) -> None:
            upgrade(config, revision)
            fill(config.attributes["connection"], rows)

        with monkeypatch.context() as patched:
            patched.setattr(layout.command, "upgrade", stop)
            Database(store_url(place), LAYOUT).close()

    return make


def fill(connection: Connection, rows: list[dict[str, object]]) -> None:
    names = list(rows[0])
    columns, values = (", ".join(form.format(name) for name in names) for form in ('"{}"', ":{}"))
    connection.execute(text(f"INSERT INTO faces ({columns}) VALUES ({values})"), rows)


def old_row(number: int, frame: bytes, **other: object) -> dict[str, object]:
    """A row of layout 0002."""
    row = {"device": "cam", "sequence": number, "model": MODEL, "layers": 2, "frame": frame, "received": 50.5}
    return row | {"revision": number + 100} | other


def is_damaged(face: StoredFace) -> bool:
    try:
        face.frame()
    except DamagedFaceError:
        return True
    return False


def test_migrate_first_release(open_store: OpenStore, tmp_path: Path) -> None:
    path = tmp_path / "faces.db"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript(FIRST_LAYOUT)
    path.chmod(0o600)
    for _ in range(2):
        store = open_store(path)
        first, damaged = store.page(0, 9)[:2]
        assert (first.row, first.id, first.model, first.layers, first.received) == (1, "cam-7", MODEL, 1, 100.25)
        assert first.frame().payload == b"a"
        assert (damaged.row, damaged.id, damaged.model, damaged.received) == (4, "b-0", b"\0", 99.0)
        with pytest.raises(DamagedFaceError, match="face b-0 is damaged in the store: a model id has 8 bytes, not 1"):
            damaged.frame()
        accept(store, device_frames("cam", 7, b"a", b"c"))
        assert [(face.row, face.revision) for face in store.changes(0, 9)] == [(1, 1), (4, 4), (5, 5)]
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("PRAGMA user_version").fetchone() == (2,)


def test_migrate_second_layout(place: str, open_store: OpenStore, earlier: Earlier) -> None:
    row = {"row": 3, "device": "cam", "sequence": 1, "model": MODEL, "layers": 1, "frame": frame_1(b"x", 1)}
    earlier(place, "0001", [row | {"received": 5}])
    assert [(face.id, face.frame().payload, face.revision) for face in open_store(place).changes(0, 9)] == [
        ("cam-1", b"x", 3)
    ]


def test_migrate_envelope(place: str, open_store: OpenStore, earlier: Earlier) -> None:
    """Faces that came by version 1 are found by name, are those that come again, and gain layers."""
    payloads = [b"ab", b"", b"x" * 127, b"y" * 128, b"z" * 16383, *(bytes([number % 251]) for number in range(1500))]
    earlier(place, "0002", [old_row(number, frame_1(payload, 2)) for number, payload in enumerate(payloads)])
    source = Source(device_stream_id("cam"), "cam", MODEL)
    again = [WireFrame(source, number, 2, payload) for number, payload in enumerate(payloads)]
    store = open_store(place)
    found = store.page(0, 9999)
    assert [face.payload for face in found] == payloads
    for number, face in enumerate(found):
        frame = face.frame()
        assert (face.id, face.revision, face.received, face.occurred) == (f"cam-{number}", number + 100, 50.5, 50.5)
        assert frame == again[number]
    assert set(accept(store, again)) == {"duplicate"}
    assert accept(store, device_frames("cam", 0, b"abc", b"new")) == ["extended", "extended"]
    assert store.find("cam-0").payload == store.find(f"{device_stream_id('cam').hex()}-0").payload == b"abc"


DAMAGED = {
    "a bit of the payload": {"frame": frame_1(b"ab", 2)[:3] + b"c" + frame_1(b"ab", 2)[4:]},
    "a bit of the checksum": {"frame": frame_1(b"ab", 2)[:-1] + b"?"},
    "cut": {"frame": frame_1(b"ab", 2)[:-1]},
    "empty": {"frame": b""},
    "no end of the length": {"frame": b"\xff" * 9},
    "other layers": {"layers": 3},
    "a layer count beyond a byte": {"layers": 258},
    "no layers": {"layers": 0, "frame": frame_1(b"ab", 0)},
    "a negative layer count": {"layers": -1},
    "another model": {"model": b"12345679"},
    "no model": {"model": b""},
    "a number below 0": {"sequence": -5},
    "a number beyond all": {"sequence": 2**53},
    "no device": {"device": ""},
    "a device of no device's name": {"device": "ca\u00e9m"},
    "a long device": {"device": "d" * 300},
    "a payload that no frame has today": {"frame": frame_1(bytes(20000), 2)},
    "received before all time": {"received": -1.0},
}


def test_migrate_damaged_rows_are_named(place: str, open_store: OpenStore, earlier: Earlier) -> None:
    rows = [old_row(number, frame_1(b"ab", 2)) | change for number, change in enumerate(DAMAGED.values())]
    earlier(place, "0002", [*rows, old_row(99, frame_1(b"ab", 2))])
    store = open_store(place)
    found = store.page(0, 99)
    assert [name for name, face in zip([*DAMAGED, "none"], found, strict=True) if not is_damaged(face)] == ["none"]
    assert len({face.id for face in found}) == len(found)
    # those that still have their name are mended when their face is sent again
    named = [number for number, change in enumerate(DAMAGED.values()) if not change.keys() & {"device", "sequence"}]
    for number in named:
        assert accept(store, device_frames("cam", number, b"ab")) == ["extended"]
        assert store.find(f"cam-{number}").frame().payload == b"ab"
    assert accept(store, device_frames("cam", named[0], b"ab")) == ["duplicate"]


@pytest.mark.parametrize("left", [2, 0])
def test_migrate_does_not_reuse_row_numbers(
    place: str, left: int, open_store: OpenStore, earlier: Earlier, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_fill = fill

    def fill_and_delete(connection: Connection, rows: list[dict[str, object]]) -> None:
        real_fill(connection, rows)
        connection.execute(text("DELETE FROM faces WHERE sequence >= :left"), {"left": left})

    monkeypatch.setitem(globals(), "fill", fill_and_delete)
    earlier(place, "0002", [old_row(number, frame_1(b"ab", 2)) for number in range(5)])
    store = open_store(place)
    accept(store, device_frames("new", 0, b"n", b"n"))
    assert [face.row for face in store.page(0, 9)] == [*range(1, left + 1), 6, 7]


def layout_of(connection: Connection) -> dict[str, object]:
    """All that describes the tables of a store, but for Alembic's own."""
    if connection.dialect.name == "sqlite":
        tables = "('faces', 'changes', 'erased')"
        query = f"SELECT type, name, sql FROM sqlite_master WHERE tbl_name IN {tables} ORDER BY name"
        return {name: (kind, " ".join((sql or "").split())) for kind, name, sql in connection.execute(text(query))}
    queries = {
        "columns": "SELECT table_name, ordinal_position, column_name, data_type, is_nullable, column_default "
        "FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> :alembic ORDER BY 1, 2",
        "indexes": "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> :alembic ORDER BY 1",
        "constraints": "SELECT conrelid::regclass::text, conname, contype, pg_get_constraintdef(oid) "
        "FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND conrelid <> (:alembic)::regclass "
        "ORDER BY 1, 2",
        "sequences": "SELECT sequencename, data_type, pg_get_serial_sequence('faces', 'row') FROM pg_sequences",
    }
    connection.execute(text(f"CREATE TABLE IF NOT EXISTS {VERSION_TABLE} (version_num text)"))
    values = {"alembic": VERSION_TABLE}
    return {
        name: [tuple(row) for row in connection.execute(text(query), values if ":alembic" in query else {})]
        for name, query in queries.items()
    }


def test_migrated_layout_is_the_fresh_one(
    place: str, open_store: OpenStore, earlier: Earlier, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """A store of each earlier layout ends as a new one does, and as the tables say."""
    is_sqlite = "://" not in place

    def another(name: str) -> str:
        return str(tmp_path / name) if is_sqlite else request.getfixturevalue("postgres").new_database(f"made_{name}")

    first, second, made = another("first"), another("second"), another("made")
    row = old_row(1, frame_1(b"ab", 2))
    earlier(first, "0001", [{name: row[name] for name in row if name != "revision"}])
    earlier(second, "0002", [row])
    found = []
    for where in (place, first, second):
        with open_store(where)._database.read() as db:
            found.append(layout_of(db))
            assert set(inspect(db).get_table_names()) == {*schema.metadata.tables, VERSION_TABLE}
    engine = create_engine(store_url(made))
    with engine.begin() as db:
        schema.metadata.create_all(db)
        found.append(layout_of(db))
    engine.dispose()
    assert found[0] == found[1] == found[2] == found[3]
    assert len(found[0]) >= 4


def test_migrations_match_tables(place: str, open_store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_store(place)._database.write() as db:
        command.check(LAYOUT.alembic_config(db))
        schema.faces.append_column(Column("forgotten", Integer))
        try:
            with pytest.raises(Exception, match="forgotten"):
                command.check(LAYOUT.alembic_config(db))
        finally:
            schema.faces._columns.remove(schema.faces.c.forgotten)


def test_migrate_newer_layout_refused(place: str, open_store: OpenStore) -> None:
    with open_store(place)._database.write() as db:
        db.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    for _ in range(2):
        with pytest.raises(EdgeError, match="is of layout 9999, newer than this program's; upgrade edge-stscq"):
            open_store(place)


def test_migrate_concurrent_starts(place: str, open_store: OpenStore) -> None:
    with ThreadPoolExecutor(4) as threads:
        stores = list(threads.map(lambda _: open_store(place), range(4)))
    assert [store.count() for store in stores] == [0] * 4
