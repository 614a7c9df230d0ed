"""Every earlier layout becomes today's without loss; the tables and the steps that make them agree."""

import contextlib
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import Column, Integer, text

from edge_stscq.errors import EdgeError
from edge_stscq.server.storage import layout
from edge_stscq.server.storage import tables as schema
from edge_stscq.server.storage.face_store import ValidatedFrame
from edge_stscq.server.storage.layout import VERSION_TABLE
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from edge_stscq.server.storage.tables import LAYOUT

OpenStore = Callable[[Path | str], SqlFaceStore]
MODEL = b"12345678"
FIRST_LAYOUT = """
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
INSERT INTO faces VALUES (1, 'cam', 7, x'3132333435363738', 1, x'61', 100.25), (4, 'b', 0, x'00', 3, x'616263', 99);
"""
"""What the first release wrote."""


def test_migrate_first_release(open_store: OpenStore, tmp_path: Path) -> None:
    path = tmp_path / "faces.db"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript(FIRST_LAYOUT)
    for _ in range(2):
        store = open_store(path)
        assert [(face.row, face.id, face.model, face.layers, face.frame, face.received) for face in store.page(0, 9)][
            :2
        ] == [(1, "cam-7", MODEL, 1, b"a", 100.25), (4, "b-0", b"\0", 3, b"abc", 99.0)]
        store.accept("cam", 7, MODEL, [ValidatedFrame(b"ab", 1), ValidatedFrame(b"c", 1)], lambda old, new: True)
        assert [(face.row, face.revision) for face in store.changes(0, 9)] == [(1, 1), (4, 4), (5, 5)]
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("PRAGMA user_version").fetchone() == (2,)


def test_migrate_earlier_layout(place: str, open_store: OpenStore, monkeypatch) -> None:
    def stop_at_first(config: object, wanted: str, upgrade: Callable[..., None] = command.upgrade) -> None:
        upgrade(config, "0001")
        insert = 'INSERT INTO faces ("row", device, sequence, model, layers, frame, received) VALUES '
        config.attributes["connection"].execute(text(insert + "(3, 'cam', 1, :model, 1, :model, 5)"), {"model": MODEL})

    with monkeypatch.context() as patched:
        patched.setattr(layout.command, "upgrade", stop_at_first)
        open_store(place).close()
    assert [(face.id, face.frame, face.revision) for face in open_store(place).changes(0, 9)] == [("cam-1", MODEL, 3)]


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
