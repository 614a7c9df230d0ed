"""Decoded faces over HTTP: decoded once, known by what they show, and refused in time when there are too many."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

import httpx2
import numpy as np
import pytest
from fastapi import FastAPI

from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.server.decoding.pool import DecoderPool
from edge_stscq.server.decoding.request import DecodeRequest
from edge_stscq.stream import CodedFace

pytestmark = pytest.mark.anyio
MakeApp = Callable[..., FastAPI]
Serve = Callable[..., AbstractAsyncContextManager[httpx2.AsyncClient]]
MakeFaces = Callable[..., list[CodedFace]]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that were decoded."""
    batches: list[int] = []
    decode = DecoderPool.decode

    def watched(pool: DecoderPool, requests: Sequence[DecodeRequest]) -> list[np.ndarray]:
        batches.append(len(requests))
        return decode(pool, requests)

    monkeypatch.setattr(DecoderPool, "decode", watched)
    return batches


async def post(client: httpx2.AsyncClient, entry: CatalogEntry, faces: list[CodedFace], first: int = 0) -> None:
    headers = {"Edge-Device": "cam", "Edge-Sequence": str(first)}
    assert (
        await client.post("/v1/frames", content=entry.codec.encode_stream(faces), headers=headers)
    ).status_code == 200


async def test_face_image_same_content_decoded_once(
    serve: Serve, entry: CatalogEntry, make_faces: MakeFaces, decoded: list[int]
) -> None:
    (face,) = make_faces(1)
    async with serve() as client:
        await post(client, entry, [face, face.truncate(1, entry.config.layer_ends)])
        paths = ["cam-0.png", "cam-0.png?layers=1", "cam-1.png", "cam-0.png?layers=3"]
        answers = [await client.get(f"/v1/faces/{path}") for path in paths]
    assert decoded == [1, 1]
    assert answers[0].content == answers[3].content != answers[1].content == answers[2].content
    assert [answer.headers["edge-layers"] for answer in answers] == ["3", "1", "1", "3"]


async def test_face_image_concurrent_requests_share_one_decoding(
    serve: Serve, entry: CatalogEntry, make_faces: MakeFaces, decoded: list[int]
) -> None:
    async with serve(cache_bytes=0, batch_delay=0.2) as client:
        await post(client, entry, make_faces(1))
        answers = await asyncio.gather(*(client.get("/v1/faces/cam-0.png") for _ in range(3)))
        assert decoded == [1]
        assert len({answer.content for answer in answers}) == 1
        await client.get("/v1/faces/cam-0.png")
    assert decoded == [1, 1]


async def test_face_image_known_etag_not_decoded(
    serve: Serve, entry: CatalogEntry, make_faces: MakeFaces, decoded: list[int]
) -> None:
    (face,) = make_faces(1)
    async with serve(cache_bytes=0) as client:
        await post(client, entry, [face.truncate(1, entry.config.layer_ends)])
        first = await client.get("/v1/faces/cam-0.png")
        tag = first.headers["etag"]
        for known in (tag, f'"another", {tag}'):
            again = await client.get("/v1/faces/cam-0.png", headers={"If-None-Match": known})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
            assert again.headers["cache-control"] == "private, no-cache"
        assert decoded == [1]
        await post(client, entry, [face])
        grown = await client.get("/v1/faces/cam-0.png", headers={"If-None-Match": tag})
        assert (grown.status_code, grown.headers["edge-layers"]) == (200, "3")
        assert grown.headers["etag"] != tag


async def test_face_image_deadline_exceeded(
    make_app: MakeApp, serve: Serve, entry: CatalogEntry, make_faces: MakeFaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, release, decode = threading.Event(), threading.Event(), DecoderPool.decode
    release.set()

    def held(pool: DecoderPool, requests: Sequence[DecodeRequest]) -> list[np.ndarray]:
        started.set()
        assert release.wait(60)
        return decode(pool, requests)

    monkeypatch.setattr(DecoderPool, "decode", held)
    app = make_app(queue_size=1)
    async with serve(app=app) as client:
        await post(client, entry, make_faces(3))
        release.clear()
        running = asyncio.create_task(client.get("/v1/faces/cam-0.png"))
        assert await asyncio.to_thread(started.wait, 60)
        monkeypatch.setattr(app.state.backend, "deadline", 2.0)
        late = asyncio.create_task(client.get("/v1/faces/cam-1.png"))
        async with asyncio.timeout(60):
            while app.state.backend.load().queued == 0:
                await asyncio.sleep(0.01)
        at_once = await client.get("/v1/faces/nobody-9.png")
        answers = [at_once, await late]
        release.set()
        assert (await running).status_code == 200
        assert (await client.get("/v1/faces/nobody-9.png")).status_code == 404
    assert [answer.status_code for answer in answers] == [503, 503]
    assert [int(answer.headers["retry-after"]) >= 1 for answer in answers] == [True, True]
    assert "queue of 1 is full" in answers[0].json()["error"]
    assert "did not come to this face in 2 s" in answers[1].json()["error"]


async def test_load_shedding_counts_admitted_requests(
    make_app: MakeApp, serve: Serve, entry: CatalogEntry, make_faces: MakeFaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many requests that come at once, only those with room in the queue are looked up."""
    release, looked_up = threading.Event(), []
    app = make_app(queue_size=3, deadline=50)
    find = app.state.store.find

    def held(face_id: str) -> object:
        looked_up.append(face_id)
        assert release.wait(60)
        return find(face_id)

    monkeypatch.setattr(app.state.store, "find", held)
    async with serve(app=app) as client:
        await post(client, entry, make_faces(20))
        asked = [asyncio.create_task(client.get(f"/v1/faces/cam-{number}.png")) for number in range(20)]
        async with asyncio.timeout(60):
            while sum(task.done() for task in asked) < 17:
                await asyncio.sleep(0.01)
        release.set()
        statuses = [answer.status_code for answer in await asyncio.gather(*asked)]
        assert sorted(statuses) == [200] * 3 + [503] * 17
        assert len(looked_up) == 3
        counted = (await client.get("/metrics")).text
    assert 'requests_total{method="GET",route="/v1/faces/{face_id}.png",status="503"} 17.0' in counted
