"""A server whose store is no database: it asks for nothing beyond the `FaceStore` protocol."""

import asyncio
import contextlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI

from edge_stscq.server.app import create_app
from edge_stscq.server.auth.scope import Scope
from edge_stscq.server.auth.tokens import TokenStore
from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.server.settings import ServerSettings
from edge_stscq.server.storage.change_feed import ChangeFeed
from edge_stscq.server.storage.face_store import FaceStore, FrameBatch
from edge_stscq.stream import CodedFace
from tests.server.conftest import ShowsToken
from tests.support.memory_face_store import MemoryFaceStore
from tests.support.stored_faces import device_frames, same_prefix

pytestmark = pytest.mark.anyio
MakeFaces = Callable[..., list[CodedFace]]
Serve = Callable[..., AbstractAsyncContextManager[httpx2.AsyncClient]]


@pytest.fixture
def store() -> MemoryFaceStore:
    return MemoryFaceStore()


@pytest.fixture
def app(tiny_model: Path, tmp_path: Path, store: MemoryFaceStore) -> FastAPI:
    settings = ServerSettings.model_validate({"model": tiny_model, "store": tmp_path / "absent" / "faces.db"})
    app = create_app(settings, store=store)
    with contextlib.closing(TokenStore(tmp_path / "absent" / "tokens.db", create=True)) as tokens:
        app.add_middleware(ShowsToken, token=tokens.create("*", Scope)[1])
    return app


async def test_routes_work_on_a_store_in_memory(
    app: FastAPI, store: MemoryFaceStore, serve: Serve, entry: CatalogEntry, make_faces: MakeFaces, tmp_path: Path
) -> None:
    first, second, other = make_faces(3)
    short = first.truncate(1, entry.config.layer_ends)

    async def post(*faces: CodedFace) -> httpx2.Response:
        headers = {"Edge-Device": "cam", "Edge-Sequence": "7"}
        return await client.post("/v1/frames", content=entry.codec.encode_stream(faces), headers=headers)

    async with serve(app=app) as client:
        for faces, expected in (((short,), (1, 0, 0)), ((first, second), (1, 1, 0)), ((second,), None)):
            answer = await post(*faces)
            if expected is None:
                assert (answer.status_code, "cam-7 is already another face" in answer.json()["error"]) == (409, True)
            else:
                assert tuple(answer.json()[name] for name in ("stored", "extended", "duplicate")) == expected
        listed = (await client.get("/v1/faces")).json()["faces"]
        assert [(face["id"], face["layers"], face["revision"]) for face in listed] == [("cam-7", 3, 2), ("cam-8", 3, 3)]
        assert (await client.get("/v1/faces/cam-8.png")).headers["content-type"] == "image/png"
        assert (await client.get("/v1/faces/cam-9.png")).status_code == 404
        (device,) = (await client.get("/v1/devices")).json()["devices"]
        assert (device["faces"], device["bytes"]) == (2, sum(len(entry.codec.encode_frame(f)) for f in (first, second)))
        newest = (await client.get("/v1/faces/newest")).json()["faces"]
        assert [face["id"] for face in newest] == ["cam-8", "cam-7"]
        assert (await client.get("/ready")).status_code == 200
        async with asyncio.timeout(60):
            while not (found := (await client.post("/v1/match", json={"face": "cam-8"})).json())["complete"]:
                await asyncio.sleep(0.01)
        assert [(face["id"], face["cosine"]) for face in found["faces"]][0] == ("cam-8", pytest.approx(1))
    assert store.closed
    assert not (tmp_path / "absent" / "faces.db").exists()


async def test_change_feed_follows_any_store() -> None:
    store: FaceStore = MemoryFaceStore()
    async with ChangeFeed(store) as feed:
        batch = FrameBatch(device_frames("cam", 0, b"a"), same_prefix)
        assert await asyncio.to_thread(store.accept_all, [batch]) == [["stored"]]
        feed.notify()
        async with asyncio.timeout(60):
            assert [face.id for face in await anext(feed.changes(0))] == ["cam-0"]
