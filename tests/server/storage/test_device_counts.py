"""Counts of devices are those of their faces, whatever happens to these."""

import contextlib
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import event, text
from typer.testing import CliRunner

from edge_stscq.cli.store import store as app
from edge_stscq.server.maintenance.inspection import inspect_store, repair_store
from edge_stscq.server.storage.face_store import DeviceStats, FaceName
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from edge_stscq.stream.envelope import device_stream_id
from edge_stscq.stream.frame import FRAME_OVERHEAD
from tests.support.stored_faces import accept, device_frames

OpenStore = Callable[[Path | str], SqlFaceStore]


def counted(store: SqlFaceStore) -> list[DeviceStats]:
    """Statistics found by reading every face."""
    found: dict[str, list[tuple[int, float]]] = {}
    for face in store.page(0, 10_000):
        found.setdefault(face.device, []).append((len(face.payload) + FRAME_OVERHEAD, face.received))
    return [
        DeviceStats(device, len(rows), sum(size for size, _ in rows), rows[-1][1], 0, 0)
        for device, rows in sorted(found.items())
    ]


def test_counts_follow_all_that_changes_faces(place: str, open_store: OpenStore) -> None:
    """Stored, extended, sent twice, refused, erased, too old; by two servers at one store."""
    draw = random.Random(1)
    stores = [open_store(place), open_store(place)]
    for _ in range(60):
        store, device, first = draw.choice(stores), draw.choice(["cam", "door"]), draw.randrange(30)
        if draw.random() < 0.3:
            names = [FaceName(device_stream_id(device), first + at) for at in range(draw.randrange(9))]
            store.erase(names, lasting=draw.random() < 0.5)
        else:
            frames = device_frames(device, first, *(b"abcdef"[: draw.randint(1, 6)] for _ in range(draw.randrange(5))))
            accept(store, frames, whole=draw.random() < 0.3)
        assert stores[0].devices(2e9) == counted(stores[1])
        assert store.wrong_counts() == []


def test_devices_reads_recent_faces_alone(place: str, open_store: OpenStore) -> None:
    store = open_store(place)
    accept(store, device_frames("cam", 0, *(b"ab" for _ in range(40))))
    asked = []
    event.listen(store._database._engine, "before_cursor_execute", lambda *call: asked.append(call[2]))
    (cam,) = store.devices(2e9)
    assert (cam.faces, cam.recent_faces) == (40, 0)
    assert [query for query in asked if "faces" in query.split("WHERE")[0] and "received >=" not in query] == [
        query for query in asked if "FROM devices" in query
    ]


def test_erasing_a_row_whose_device_was_damaged_keeps_the_counts(place: str, open_store: OpenStore) -> None:
    store = open_store(place)
    accept(store, device_frames("cam", 0, b"a", b"b", b"c"))
    with store._database.write() as db:
        db.execute(text("UPDATE faces SET device = 'cal' WHERE sequence = 1"))
    assert store.erase([FaceName(device_stream_id("cam"), 1)]) == 1
    assert store.wrong_counts() == []
    assert [(one.device, one.faces) for one in store.devices(2e9)] == [("cam", 2)]


@pytest.mark.parametrize(("column", "value"), [("payload", b"longer"), ("device", "door")])
def test_erasing_a_damaged_row_keeps_the_counts(
    place: str, open_store: OpenStore, column: str, value: str | bytes
) -> None:
    """Its length, or its device, is not what was counted when it came."""
    store = open_store(place)
    accept(store, device_frames("cam", 0, b"a", b"bb", b"c"))
    accept(store, device_frames("door", 0, b"d"))
    with store._database.write() as db:
        db.execute(text(f"UPDATE faces SET {column} = :value WHERE sequence = 1"), {"value": value})
    assert store.wrong_counts() != []
    assert store.erase([FaceName(device_stream_id("cam"), 1)]) == 1
    assert store.wrong_counts() == []
    assert store.devices(2e9) == counted(store)


def test_recount_mends_counts_of_any_store(place: str, open_store: OpenStore) -> None:
    store = open_store(place)
    accept(store, device_frames("cam", 0, b"a", b"b"))
    accept(store, device_frames("door", 0, b"a"))
    with store._database.write() as db:
        db.execute(text("UPDATE devices SET faces = 7 WHERE device = 'cam'"))
    done = CliRunner().invoke(app, ["repair", "--store", place]) if "://" in place else None
    if done is None:
        assert store.recount() == ["cam"]
    else:
        assert done.exit_code == 0, done.exception
        assert "1 device counted anew: cam" in done.stdout
    assert store.recount() == []
    assert store.devices(2e9) == counted(store)


def test_wrong_counts_are_named_and_mended(tmp_path: Path) -> None:
    path = tmp_path / "faces.db"
    with contextlib.closing(SqlFaceStore(path)) as store:
        accept(store, device_frames("cam", 0, b"a", b"b"))
        accept(store, device_frames("door", 0, b"a"))
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE devices SET faces = 7 WHERE device = 'cam'")
        db.execute("DELETE FROM devices WHERE device = 'door'")
    found = inspect_store(path)
    assert not found.whole
    assert found.problems == ["what is counted of cam, door is not what there is; store repair counts anew"]
    repair_store(path)
    assert inspect_store(path).whole
    with contextlib.closing(SqlFaceStore(path)) as store:
        assert store.devices(2e9) == counted(store)
