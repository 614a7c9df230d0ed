"""GET /v1/faces/newest: by capture, page after page without gaps or repeats, and to whom."""

import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import httpx2
import numpy as np
import pytest

from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.server.storage import acceptance
from edge_stscq.server.storage.face_store import Position
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from edge_stscq.stream import CodedFace
from edge_stscq.stream.envelope import Clock, Source, WireFrame, stream_id
from tests.support.stored_faces import MODEL, NOON, Camera, accept, device_frames
from tests.support.stream_requests import acknowledged, post

Serve = Callable[..., AbstractAsyncContextManager[httpx2.AsyncClient]]
MakeFaces = Callable[..., list[CodedFace]]
Issue = Callable[..., str]
OpenStore = Callable[[Path | str], SqlFaceStore]


def captured(*times: int | None, device: str = "cam", first: int = 0) -> list[WireFrame]:
    """Frames captured at these milliseconds."""
    key, clocks = device.encode().ljust(16), (Clock.NONE, Clock.SYNCHRONIZED)
    return [
        WireFrame(Source(stream_id(key), device, MODEL, clock=clocks[time is not None]), number, 1, b"a", time)
        for number, time in enumerate(times, first)
    ]


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """`at(seconds)`: the store's clock."""
    return lambda now: monkeypatch.setattr(acceptance.time, "time", lambda: now)


def test_newest_order(place: str, open_store: OpenStore, at: Callable[[float], None]) -> None:
    """By capture, whenever received; a face without a time, or from the future, counts as received."""
    store = open_store(place)
    at(100.0)
    accept(store, captured(90_000, 99_999, None, 100_000, 10**14))
    at(200.0)
    accept(store, captured(95_000, 150_000, None, first=5))
    accept(store, device_frames("old", 0, b"a"))
    found = [(face.sequence, face.occurred) for face in store.newest(99)]
    assert found == [
        (0, 200.0), (7, 200.0), (6, 150.0), (4, 100.0), (3, 100.0), (2, 100.0), (1, 99.999), (5, 95.0), (0, 90.0),
    ]  # fmt: skip
    assert [face.device for face in store.newest(1)] == ["old"]
    # a face keeps its place when it gains layers
    at(300.0)
    (more,) = captured(90_000)
    assert accept(store, [more.with_payload(2, b"ab")]) == ["extended"]
    assert [(face.sequence, face.occurred) for face in store.newest(99)] == found


def test_newest_pages_have_no_gaps_or_repeats(place: str, open_store: OpenStore, at: Callable[[float], None]) -> None:
    """Of times of which most are equal, some differ by a rounding, and with faces that come while one reads."""
    store, random = open_store(place), np.random.default_rng(0)
    at(1_800_000_000.123456)
    times = [int(time) for time in random.choice([NOON, NOON + 1, NOON + 2, 1, 0, 2**48 - 1], 200)]
    accept(store, captured(*times))
    expected = sorted((Position(face.occurred, face.row) for face in store.page(0, 999)), reverse=True)
    for size in (1, 7, 199, 200, 201):
        seen, before = list[Position](), None
        while page := store.newest(size, before):
            assert len(page) <= size
            before = Position(page[-1].occurred, page[-1].row)
            seen += [Position(face.occurred, face.row) for face in page]
        assert seen == expected
    first = store.newest(50)
    accept(store, captured(NOON + 1, 0, device="late"))
    rest = store.newest(999, Position(first[-1].occurred, first[-1].row))
    old = [face for face in rest if face.device == "cam"]
    assert [Position(face.occurred, face.row) for face in first + old] == expected


def test_newest_filters(place: str, open_store: OpenStore, at: Callable[[float], None]) -> None:
    store = open_store(place)
    at(500.0)
    accept(store, captured(100_000, 200_000, 300_000, 300_000))
    accept(store, captured(250_000, None, device="door"))

    def numbers(*arguments: object, **chosen: object) -> list[tuple[str, int]]:
        return [(face.device[0], face.sequence) for face in store.newest(*arguments, **chosen)]

    assert numbers(9, device="door") == [("d", 1), ("d", 0)]
    assert numbers(9, since=200.0, until=300.0) == [("d", 0), ("c", 1)]
    assert numbers(9, since=300.0) == [("d", 1), ("c", 3), ("c", 2)]
    assert numbers(1, Position(300.0, 4), "cam", 100.0) == [("c", 2)]
    assert numbers(9, Position(300.0, 3), "cam", until=200.0) == [("c", 0)]
    assert numbers(9, device="nobody") == numbers(9, since=501.0) == numbers(9, Position(100.0, 1)) == []


@pytest.mark.anyio
async def test_newest_route(serve: Serve, entry: CatalogEntry, make_faces: MakeFaces, issue: Issue) -> None:
    camera, other = Camera(entry.codec), Camera(entry.codec, "door-2", key=bytes(15) + b"\1")
    faces = make_faces(5)
    headers: dict[str, str] = {}
    async with serve() as client:

        async def ask(**query: object) -> tuple[int, list[str]]:
            answer = await client.get("/v1/faces/newest", params=query, headers=headers)
            names = [face["id"].replace(camera.stream, "a") for face in answer.json().get("faces", [])]
            return answer.status_code, [name.replace(other.stream, "b") for name in names]

        assert (await client.get("/v1/faces/newest")).json() == {"faces": [], "next": None}
        frames = [camera.frame(face, number, NOON + number // 3) for number, face in enumerate(faces)]
        assert await acknowledged(client, camera.file(*frames)) == {"stored": 5}
        assert await acknowledged(client, other.file(other.frame(faces[0], 0, NOON + 1))) == {"stored": 1}
        wanted = ["b-0", "a-4", "a-3", "a-2", "a-1", "a-0"]
        assert await ask() == (200, wanted)
        seen, cursor = [], None
        while True:
            query = {"limit": 2} | ({} if cursor is None else {"before": cursor})
            page = (await client.get("/v1/faces/newest", params=query)).json()
            seen += [face["id"] for face in page["faces"]]
            cursor = page["next"]
            if cursor is None:
                break
            assert re.fullmatch(r"[0-9.]+_[0-9]+", cursor)
        assert [name.replace(camera.stream, "a").replace(other.stream, "b") for name in seen] == wanted
        assert await ask(device="door-1", limit=2) == (200, ["a-4", "a-3"])
        moment = "2023-11-14T22:13:20.001Z"
        assert await ask(since=moment) == (200, wanted[:3])
        assert await ask(until=moment) == (200, wanted[3:])
        for query in (
            {"before": "x"}, {"before": "1"}, {"before": "1_-2"}, {"before": "nan_1"}, {"before": "1" * 50 + "_1"},
            {"before": "1_" + "9" * 17}, {"before": "1_1\n"}, {"before": "٣_1"}, {"limit": 0}, {"limit": 1001},
            {"device": "a b"}, {"since": "yesterday"},
        ):  # fmt: skip
            assert (await ask(**query))[0] == 422, query
        for cursor, expected in (("1e300_1", wanted), ("9" * 16 + "e999_0", wanted), ("0_1", []), ("0.0_0", [])):
            assert await ask(before=cursor) == (200, expected), cursor


@pytest.mark.anyio
async def test_newest_device_of_token(serve: Serve, entry: CatalogEntry, make_faces: MakeFaces, issue: Issue) -> None:
    fleet, mine = issue("*", "send", "read"), issue("door-1", "read")
    camera, other = Camera(entry.codec), Camera(entry.codec, "door-2", key=bytes(15) + b"\1")
    async with serve() as client:
        for body in (camera.faces(make_faces(2)), other.faces(make_faces(2))):
            assert (await post(client, body, fleet)).status_code == 200
        for token, query, expected in (
            (fleet, "", [other, camera] * 2), (mine, "", [camera] * 2), (mine, "?device=door-1", [camera] * 2),
            (fleet, "?device=door-2", [other] * 2),
        ):  # fmt: skip
            answer = await client.get(f"/v1/faces/newest{query}", headers={"Authorization": f"Bearer {token}"})
            assert [face["stream"] for face in answer.json()["faces"]] == [one.stream for one in expected]
        headers = {"Authorization": f"Bearer {mine}"}
        assert (await client.get("/v1/faces/newest?device=door-2", headers=headers)).status_code == 403
        # a place in the order of all tells nothing of others
        cursor = (await client.get("/v1/faces/newest?limit=1", headers={"Authorization": f"Bearer {fleet}"})).json()
        page = await client.get(f"/v1/faces/newest?before={cursor['next']}", headers=headers)
        assert {face["stream"] for face in page.json()["faces"]} == {camera.stream}
