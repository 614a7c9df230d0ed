"""The live feed, over real WebSockets: nothing missed, nobody let in, nobody waited for."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from edge_stscq.server.api import live
from edge_stscq.server.auth import audit_log as audit
from edge_stscq.server.auth.tokens import TokenStore
from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.server.storage import change_feed as feed_module
from edge_stscq.server.storage.change_feed import ChangeFeed
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from edge_stscq.stream import CodedFace
from tests.support.audit_lines import audit_lines
from tests.support.stored_faces import Camera, accept, device_frames

pytestmark = pytest.mark.anyio
MakeApp = Callable[..., FastAPI]
Listen = Callable[..., AbstractAsyncContextManager[tuple[str, FastAPI]]]
MakeFaces = Callable[..., list[CodedFace]]
Issue = Callable[..., str]


def feed_of(address: str, query: str = "", **options: object) -> connect:
    return connect(f"ws://{address}/v1/live{query}", proxy=None, **options)


async def post(
    address: str, entry: CatalogEntry, faces: list[CodedFace], first: int = 0, device: str = "cam", token: str = ""
) -> None:
    headers = {"Edge-Device": device, "Edge-Sequence": str(first), "Authorization": f"Bearer {token or '-'}"}
    async with httpx2.AsyncClient() as client:
        body = entry.codec.encode_stream(faces)
        assert (await client.post(f"http://{address}/v1/frames", content=body, headers=headers)).status_code == 200


async def heard(feed: ClientConnection, count: int) -> list[tuple[str, int, int]]:
    """Id, layers and revision of the next `count` messages."""
    async with asyncio.timeout(30):
        messages = [json.loads(await feed.recv()) for _ in range(count)]
    return [(message["id"], message["layers"], message["revision"]) for message in messages]


async def closed(feed: ClientConnection) -> tuple[int | None, str | None]:
    """Close code and reason."""
    async with asyncio.timeout(30):
        await feed.wait_closed()
    return feed.close_code, feed.close_reason


async def refused(address: str, query: str = "", **options: object) -> tuple[int, str]:
    """Status of the refused handshake and the one line that says why."""
    with pytest.raises(InvalidStatus) as error:
        async with feed_of(address, query, **options):
            pass
    return error.value.response.status_code, json.loads(error.value.response.body)["error"]


async def test_live_sends_new_and_extended_faces(listen: Listen, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    faces = make_faces(2)
    basic = [face.truncate(1, entry.config.layer_ends) for face in faces]
    async with listen() as (address, _), feed_of(address) as feed:
        await post(address, entry, basic)
        assert await heard(feed, 2) == [("cam-0", 1, 1), ("cam-1", 1, 2)]
        await post(address, entry, faces[1:], 1)
        await post(address, entry, faces[1:], 1)
        await post(address, entry, faces[:1], 7)
        assert await heard(feed, 2) == [("cam-1", 3, 3), ("cam-7", 3, 4)]
        async with httpx2.AsyncClient() as client:
            listed = (await client.get(f"http://{address}/v1/faces")).json()["faces"]
        async with feed_of(address, "?last=4") as again:
            told = [json.loads(await again.recv()) for _ in range(3)]
        assert sorted(told, key=str) == sorted(listed, key=str)


async def test_live_sends_faces_of_version_2(listen: Listen, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    """As they are listed; one that the store has spoiled is passed over."""
    camera, faces = Camera(entry.codec), make_faces(3)
    frames = [camera.frame(face, number, track=number, quality=50) for number, face in enumerate(faces)]
    async with listen() as (address, app), feed_of(address) as feed, httpx2.AsyncClient() as client:
        answer = await client.post(f"http://{address}/v2/frames", content=camera.file(*frames))
        assert answer.json()["stored"] == 3
        async with asyncio.timeout(30):
            told = [json.loads(await feed.recv()) for _ in range(3)]
        assert told == (await client.get(f"http://{address}/v1/faces")).json()["faces"]
        assert [(face["id"], face["track"]) for face in told] == [(frame.name, frame.track) for frame in frames]
        with app.state.store._database.write() as db:
            db.execute(text("UPDATE faces SET layers = 77 WHERE sequence = 1"))
    async with listen() as (address, app), feed_of(address, "?after=0") as feed:
        assert await heard(feed, 2) == [(frames[0].name, 3, 1), (frames[2].name, 3, 3)]


async def test_live_resumes_beyond_memory(
    listen: Listen, entry: CatalogEntry, make_faces: MakeFaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "RECENT", 3)
    monkeypatch.setattr(feed_module, "PAGE", 2)
    async with listen() as (address, _):
        await post(address, entry, make_faces(4))
        await post(address, entry, make_faces(5, seed=1), device="door")
        for query, expected in (
            ("?after=0", [*(f"cam-{n}" for n in range(4)), *(f"door-{n}" for n in range(5))]),
            ("?after=7", ["door-3", "door-4"]),
            ("?last=1", ["door-4"]),
            ("?last=100&device=cam", [f"cam-{n}" for n in range(4)]),
            ("?after=3&device=door", [f"door-{n}" for n in range(5)]),
            ("?after=999", []),
            ("", []),
        ):
            async with feed_of(address, query) as feed:
                assert [face for face, _, _ in await heard(feed, len(expected))] == expected
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await feed.recv()


async def test_live_sends_faces_of_another_server(
    listen: Listen, entry: CatalogEntry, make_faces: MakeFaces, tmp_path: Path
) -> None:
    async with listen() as (address, _), feed_of(address) as feed:
        other = SqlFaceStore(tmp_path / "faces.db")
        camera = Camera(entry.codec)
        accept(other, [camera.frame(make_faces(1)[0], 5)])
        other.close()
        assert await heard(feed, 1) == [(f"{camera.stream}-5", 3, 1)]


async def test_live_scope_and_device(
    listen: Listen, issue: Issue, entry: CatalogEntry, make_faces: MakeFaces, tmp_path: Path
) -> None:
    fleet, mine = issue("*", "read", "send"), issue("door", "read")
    sender = issue("*", "send")
    with audit.audit_log(tmp_path / "audit.jsonl"):
        async with listen() as (address, _):
            for options in ({}, {"subprotocols": ["edge-stscq.v1"]}, {"subprotocols": ["bearer.stscq_guess"]}):
                assert (await refused(address, **options))[0] == 401
            assert (await refused(address, f"?token={fleet}"))[0] == 401
            status, reason = await refused(address, subprotocols=["edge-stscq.v1", f"bearer.{sender}"])
            assert (status, "read is needed" in reason) == (403, True)
            assert (await refused(address, "?device=cam", subprotocols=[f"bearer.{mine}"]))[0] == 403
            async with (
                feed_of(address, subprotocols=["edge-stscq.v1", f"bearer.{mine}"]) as door,
                feed_of(address, additional_headers={"Authorization": f"Bearer {fleet}"}) as all_of_them,
            ):
                assert (door.subprotocol, all_of_them.subprotocol) == ("edge-stscq.v1", None)
                await post(address, entry, make_faces(1), 0, "cam", fleet)
                await post(address, entry, make_faces(1), 0, "door", fleet)
                assert await heard(door, 1) == [("door-0", 3, 2)]
                assert await heard(all_of_them, 2) == [("cam-0", 3, 1), ("door-0", 3, 2)]
    lines = audit_lines(tmp_path / "audit.jsonl")
    told = [(line["who"], line["outcome"]) for line in lines if "faces" not in line and line["what"] == "WS /v1/live"]
    assert told == [
        *[(None, 401)] * 4, (sender[6:18], 403), (mine[6:18], 403), (mine[6:18], 101), (fleet[6:18], 101),
    ]  # fmt: skip
    shown = {line["who"]: line["faces"] for line in lines if line["outcome"] == "shown"}
    assert shown == {mine[6:18]: {"door": "0"}, fleet[6:18]: {"cam": "0", "door": "0"}}
    assert all(token[19:] not in (tmp_path / "audit.jsonl").read_text() for token in (fleet, mine, sender))


async def test_live_foreign_origin_and_bad_query(listen: Listen) -> None:
    async with listen(live_clients=1) as (address, _):
        for origin in ("http://evil.example", "null", f"http://{address}.evil.example", "http://127.0.0.1:1"):
            assert (await refused(address, additional_headers={"Origin": origin}))[0] == 403
        for query in ("?after=-1", "?after=x", "?last=1001", "?device=a/b", f"?after={2**53}"):
            assert (await refused(address, query))[0] == 422
        async with feed_of(address, additional_headers={"Origin": f"http://{address}"}):
            status, reason = await refused(address)
            assert (status, reason) == (503, "1 clients follow the feed already; try again later")
        async with feed_of(address):
            pass


async def test_live_client_message_closes(listen: Listen) -> None:
    async with listen() as (address, app), feed_of(address) as feed, feed_of(address) as quiet:
        await feed.send("hello")
        assert await closed(feed) == (live.UNEXPECTED, "this feed takes no messages")
        assert quiet.close_code is None
        assert app.state.guard


async def test_live_revoked_token_closes(
    listen: Listen, issue: Issue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "RECHECK_SECONDS", 0.05)
    token = issue("*", "read")
    async with (
        listen(requests_per_minute=2) as (address, _),
        feed_of(address, subprotocols=[f"bearer.{token}"]) as feed,
    ):
        await asyncio.sleep(0.2)
        assert feed.close_code is None
        with contextlib.closing(TokenStore(tmp_path / "tokens.db", create=False)) as tokens:
            tokens.revoke(token[6:18])
        assert (await closed(feed))[0] == live.FORBIDDEN


async def test_live_slow_client_dropped(
    make_app: MakeApp, entry: CatalogEntry, make_faces: MakeFaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "SEND_SECONDS", 0.05)
    app, sent = make_app(live_clients=1), []

    async def receive() -> dict[str, str]:
        if not sent:
            return {"type": "websocket.connect"}
        await asyncio.Event().wait()
        raise AssertionError("never set")

    async def send(message: dict[str, object]) -> None:
        sent.append((message["type"], message.get("code")))
        if message["type"] == "websocket.send":
            await asyncio.Event().wait()

    scope = {
        "type": "websocket", "asgi": {"version": "3.0"}, "scheme": "ws", "path": "/v1/live", "raw_path": b"/v1/live",
        "query_string": b"last=9", "root_path": "", "headers": [(b"host", b"127.0.0.1")], "subprotocols": [],
        "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1), "extensions": {"websocket.http.response": {}},
    }  # fmt: skip
    accept(app.state.store, [Camera(entry.codec).frame(make_faces(1)[0], 0)])
    async with app.router.lifespan_context(app), asyncio.timeout(30):
        for _ in range(2):
            sent.clear()
            await app(dict(scope), receive, send)
            assert sent == [("websocket.accept", None), ("websocket.send", None), ("websocket.close", live.SLOW)]


async def test_live_store_failure_closes(
    listen: Listen, entry: CatalogEntry, make_faces: MakeFaces, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def broken(*_: object) -> list[object]:
        raise OSError("gone")

    async with listen() as (address, _):
        await post(address, entry, make_faces(1))
    async with listen() as (address, app):
        monkeypatch.setattr(app.state.store, "changes", broken)
        async with feed_of(address, "?after=0") as feed:
            assert (await closed(feed))[0] == live.FAILED
        monkeypatch.undo()
    assert "the store cannot be read for the feed: gone" in [record.getMessage() for record in caplog.records]


async def test_change_feed_recovers_from_store_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(feed_module, "POLL_SECONDS", 0.01)
    store, other = (SqlFaceStore(tmp_path / "faces.db") for _ in range(2))
    failures = 0
    changes = store.changes

    def failing(after: int, limit: int, device: str | None = None) -> list[object]:
        nonlocal failures
        failures += 1
        if failures < 5:
            raise OSError("gone")
        return changes(after, limit, device)

    monkeypatch.setattr(store, "changes", failing)
    async with ChangeFeed(store) as feed, asyncio.timeout(30):
        accept(other, device_frames("cam", 0, b"a"))
        told = await anext(feed.changes(0))
    store.close()
    other.close()
    assert [face.id for face in told] == ["cam-0"]
    assert [record.getMessage() for record in caplog.records] == ["the store cannot be followed now: gone"]
