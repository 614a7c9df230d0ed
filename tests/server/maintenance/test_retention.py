"""Faces go when they are old enough, each device's by its own period."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_stscq.errors import EdgeError
from edge_stscq.server.maintenance import retention as module
from edge_stscq.server.maintenance.retention import Retention, expire, retaining
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from tests.support.stored_faces import accept, device_frames

OpenStore = Callable[[Path | str], SqlFaceStore]
DAY = 86400.0


def test_parse_periods() -> None:
    found = Retention.parse(["30d", "door-1=48h", "vault=forever", "lobby=2w"])
    assert [found.of(name) for name in ("other", "door-1", "vault", "lobby")] == [30 * DAY, 2 * DAY, None, 14 * DAY]
    assert found.limited
    assert not Retention.parse([]).limited
    assert not Retention.parse(["forever"]).limited


@pytest.mark.parametrize("text", ["", "30", "0d", "-1d", "d", "1y", "=1d", "a b=1d", "1.5d", "door=", "9999999d"])
def test_parse_refuses(text: str) -> None:
    with pytest.raises(EdgeError, match="is no period to keep faces for"):
        Retention.parse([text])


def test_parse_twice() -> None:
    with pytest.raises(EdgeError, match="two periods are given for all devices"):
        Retention.parse(["1d", "2d"])


def test_expire_by_device(place: str, open_store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MANY", 2)
    store, now = open_store(place), time.time()
    for device in ("cam", "door", "vault"):
        for number, age in enumerate((0.5, 3, 3, 3, 40)):
            with monkeypatch.context() as patched:
                patched.setattr(time, "time", lambda age=age: now - age * DAY)
                accept(store, device_frames(device, number, b"a"))
    periods = Retention.parse(["30d", "door=2d", "vault=forever"])
    assert expire(store, periods, now) == 1 + 4
    assert [face.id for face in store.page(0, 99) if face.device == "door"] == ["door-0"]
    assert store.count() == 4 + 1 + 5
    assert expire(store, periods, now) == 0


def test_retaining_sweeps_while_a_server_runs(tmp_path: Path, open_store: OpenStore) -> None:
    store = open_store(tmp_path / "faces.db")
    accept(store, device_frames("cam", 0, b"a"))
    with store._database.write() as db:
        db.exec_driver_sql("UPDATE faces SET received = 1000, occurred = 1000")

    async def serve() -> None:
        async with retaining(store, Retention.parse(["1h"])), asyncio.timeout(30):
            while store.count():
                await asyncio.sleep(0.01)

    asyncio.run(serve())


def test_expire_ends_where_nothing_can_be_erased(tmp_path: Path, open_store: OpenStore) -> None:
    store = open_store(tmp_path / "faces.db")
    accept(store, device_frames("cam", 0, b"a", b"b"))
    with store._database.write() as db:
        db.exec_driver_sql("UPDATE faces SET received = 1000, occurred = 1000")
    store.erase = lambda names, lasting: 0  # type: ignore[method-assign]
    assert expire(store, Retention.parse(["1h"])) == 0
    assert store.count() == 2
