"""Damaged rows: named when they are read, never another face, in nobody's way, and mended by their own face."""

import asyncio
import contextlib
import random
import re
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import text

from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.server.storage.database import StoreError
from edge_stscq.server.storage.face_store import DamagedFaceError, StoredFace
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from edge_stscq.stream import CodedFace
from edge_stscq.stream.envelope import Clock, Source, WireFrame, stream_id
from tests.support.stored_faces import MODEL, NOON, Camera, accept, device_frames
from tests.support.stream_requests import acknowledged

OpenStore = Callable[[Path | str], SqlFaceStore]
MakeApp = Callable[..., object]
Serve = Callable[..., AbstractAsyncContextManager[httpx2.AsyncClient]]
MakeFaces = Callable[..., list[CodedFace]]

SOURCE = Source(stream_id(bytes(16)), "cam", MODEL, clock=Clock.SYNCHRONIZED)
DAMAGE: dict[str, tuple[object, ...]] = {
    "device": ("cal", "", "c/m", "c" * 65, "cam "),
    "stream": (stream_id(bytes(15) + b"\1"), b"", bytes(17)),
    "sequence": (6, -1, 2**53, 2**62),
    "model": (b"12345679", b"", bytes(9)),
    "coder": (bytes(7) + b"\1", b""),
    "kind": (1, -1, 256),
    "clock": (0, 1, 3, -1),
    "captured": (NOON + 1, -1, 2**48, 2**62, None),
    "track": (4, -1, 2**32, None),
    "quality": (51, -1, 101, 255, None),
    "extensions": (b"\6\0", b"", b"\5", bytes(300)),
    "layers": (1, 0, 16, -1),
    "payload": (b"ac", b"", b"abc", bytes(16384)),
    "checksum": (0, -1, 2**32, 2**62),
    "received": (-1.0,),
    "occurred": (0.0, -1.0, 1e300, NOON / 1000 + 0.001),
}
"""Values that a column may be damaged to. Of `received` only what cannot be shows; it says nothing of the face."""


def frame(number: int, payload: bytes = b"ab") -> WireFrame:
    return WireFrame(SOURCE, number, len(payload), payload, NOON, 3, 50, b"\5\0")


def damage(store: SqlFaceStore, row: int, column: str, value: object) -> None:
    with store._database.write() as db:
        query = f'UPDATE faces SET "{column}" = :value WHERE "row" = :row'
        assert db.execute(text(query), {"value": value, "row": row}).rowcount == 1


def damaged_rows(faces: Iterable[StoredFace]) -> list[int]:
    rows = []
    for face in faces:
        try:
            face.frame()
        except DamagedFaceError as error:
            rows.append(face.row)
            assert re.fullmatch(f"face {re.escape(face.id)} is damaged in the store: .+", str(error))  # noqa: PT017
    return rows


@pytest.mark.parametrize("column", DAMAGE)
def test_damage_of_a_column_is_found_and_mended(place: str, open_store: OpenStore, column: str) -> None:
    """Whatever has taken its name is not its face, which is there again once it is sent."""
    store, frames = open_store(place), [frame(number) for number in (0, 5, 9)]
    accept(store, frames)
    for value in DAMAGE[column]:
        row = store.find(frames[1].name).row
        damage(store, row, column, value)
        assert damaged_rows(store.page(0, 9)) == damaged_rows(store.newest(9)) == [row]
        assert damaged_rows(store.changes(0, 9)) == [row]
        for one in store.page(0, 9):
            assert one.row == row or one.frame() == frame(one.sequence)
        renamed = column in ("stream", "sequence")
        found = store.find(frames[1].name)
        assert found is None if renamed else damaged_rows([found]) == [row]
        assert accept(store, frames) == ["duplicate", "stored" if renamed else "extended", "duplicate"]
        assert [store.find(one.name).frame() for one in frames] == frames
        assert damaged_rows(store.page(0, 9)) == ([row] if renamed else [])
        with store._database.write() as db:
            db.execute(text('DELETE FROM faces WHERE "row" = :row AND :renamed'), {"row": row, "renamed": renamed})


def test_damage_is_mended_by_fewer_layers(place: str, open_store: OpenStore) -> None:
    store = open_store(place)
    accept(store, [frame(0, b"abc")])
    damage(store, 1, "payload", b"abd")
    assert accept(store, [frame(0, b"a")]) == ["extended"]
    assert accept(store, [frame(0, b"a"), frame(0, b"abc")]) == ["duplicate", "extended"]
    assert [(face.payload, face.revision) for face in store.changes(0, 9)] == [(b"abc", 3)]


def test_damaged_revision_does_not_stop_the_feed(place: str, open_store: OpenStore) -> None:
    store = open_store(place)
    accept(store, [frame(0), frame(1)])
    damage(store, 2, "revision", 2**40)
    assert [face.sequence for face in store.changes(0, 9)] == [0]
    accept(store, [frame(2)])
    assert [face.sequence for face in store.changes(2, 9)] == [2]


def page_of(path: Path, name: str) -> range:
    """Offsets of the page that holds a small table or index."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        ((page,),) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchall()
        ((size,),) = db.execute("PRAGMA page_size").fetchall()
    return range((page - 1) * size, page * size)


def test_damaged_index_does_not_lead_a_write_astray(open_store: OpenStore, tmp_path: Path) -> None:
    """An entry of the index of names that means the row of another face: that one is not written over."""
    path, store = tmp_path / "faces.db", open_store(tmp_path / "faces.db")
    frames = [frame(101), frame(102), frame(103)]
    accept(store, frames)
    store.close()
    page, data = page_of(path, "sqlite_autoindex_faces_1"), bytearray(path.read_bytes())
    entry = SOURCE.stream_id + bytes([103])
    row = data.index(entry, page.start, page.stop) + len(entry)
    assert data[row] == 3
    data[row] = 2
    path.write_bytes(data)
    path.chmod(0o600)
    store = open_store(path)
    with pytest.raises(StoreError, match="an index leads to rows of other faces; it is damaged"):
        accept(store, [frame(103, b"abc")])
    assert [face.frame() for face in store.page(0, 9)] == frames


def test_random_damage_of_a_file_is_never_another_face(open_store: OpenStore, tmp_path: Path) -> None:
    """A byte anywhere in the table's page is another: each face is as it was, is named as damaged, or is gone."""
    draw, path = random.Random(0), tmp_path / "faces.db"
    frames = [
        *(WireFrame(SOURCE, number, 3, draw.randbytes(40), NOON + number, 2, 9) for number in range(12)),
        *device_frames("old", 0, *(draw.randbytes(12) for _ in range(6))),
    ]
    store = open_store(path)
    accept(store, frames)
    ids = [face.id for face in store.page(0, 99)]
    store.close()
    page, whole = page_of(path, "faces"), path.read_bytes()
    sent = {(one.source.stream_id, one.number): one for one in frames}
    used = [at for at in page if whole[at]]
    named = 0
    for step in range(150):
        at, bit = draw.choice(used), draw.randrange(8)
        changed = tmp_path / f"{step}.db"
        changed.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
        changed.chmod(0o600)
        damaged = open_store(changed)
        reads = (
            (damaged.page, 0, 99),
            (damaged.newest, 99),
            (damaged.changes, 0, 99),
            *((damaged.find, one) for one in ids),
        )
        for read, *arguments in reads:
            try:
                found = read(*arguments)
            except StoreError:  # SQLite itself says that the page makes no sense
                continue
            found = found if isinstance(found, list) else [found] if found else []
            rows = damaged_rows(found)
            named += len(rows)
            for face in found:
                assert face.row in rows or face.frame() == sent[face.stream, face.sequence], (at, bit)
        with contextlib.suppress(StoreError):
            assert damaged.devices(0.0)
        damaged.close()
        changed.unlink()
    assert named > 200


@pytest.mark.anyio
async def test_damaged_row_is_left_out_and_named(
    serve: Serve, make_app: MakeApp, entry: CatalogEntry, make_faces: MakeFaces, caplog: pytest.LogCaptureFixture
) -> None:
    camera, faces = Camera(entry.codec), make_faces(3)
    app = make_app()
    names = [f"{camera.stream}-{number}" for number in range(3)]
    said = f"face {names[1]} is damaged in the store: "
    async with serve(app=app) as client:

        async def listed(path: str) -> list[str]:
            answer = await client.get(path)
            assert answer.status_code == 200, answer.text
            return sorted(face["id"] for face in answer.json()["faces"])

        async def matched(expected: list[str]) -> None:
            """Wait until these are found."""
            async with asyncio.timeout(30):
                while True:
                    page = (await client.post("/v1/match", content=camera.faces(faces[:1]))).json()
                    if sorted(face["id"] for face in page["faces"]) == expected:
                        return
                    await asyncio.sleep(0.01)

        assert await acknowledged(client, camera.faces(faces)) == {"stored": 3}
        await matched(names)
        for column, value in (("layers", 99), ("device", "door-9"), ("payload", b"?"), ("quality", -7)):
            damage(app.state.store, 2, column, value)
            caplog.clear()
            for path in ("/v1/faces", "/v1/faces/newest", "/v1/faces?device=door-1", "/v1/faces?device=door-9"):
                assert names[1] not in await listed(path)
            assert await listed("/v1/faces?limit=1&after=1") == []
            await matched([names[0], names[2]])
            assert any(said in record.getMessage() for record in caplog.records)
            for answer in (
                await client.get(f"/v1/faces/{names[1]}.png"), await client.post("/v1/match", json={"face": names[1]}),
            ):  # fmt: skip
                assert (answer.status_code, said in answer.json()["error"]) == (500, True)
            assert (await client.get("/v1/devices")).status_code == (await client.get("/metrics")).status_code == 200
            assert await acknowledged(client, camera.faces(faces)) == {"extended": 1, "duplicate": 2}
            assert await listed("/v1/faces") == names
            await matched(names)
        assert app.state.store.wrong_counts() == []
        with app.state.store._database.write() as db:
            db.execute(text("UPDATE devices SET last_received = 1e300"))
        devices = (await client.get("/v1/devices")).json()["devices"]
        assert [one["last_received"] for one in devices] == ["9999-12-31T23:59:59Z"]
