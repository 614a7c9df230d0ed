"""Frames in, faces out, over HTTP: what is accepted, what is answered, what survives."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import cv2
import httpx2
import numpy as np
import pytest
from fastapi import FastAPI

from edge_stscq.codec.face_decoder import FaceDecoder
from edge_stscq.server.decoding import backend
from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.server.decoding.pool import DecoderPool
from edge_stscq.server.decoding.request import DecodeRequest
from edge_stscq.stream import CodedFace

pytestmark = pytest.mark.anyio
MakeApp = Callable[..., FastAPI]
Serve = Callable[..., AbstractAsyncContextManager[httpx2.AsyncClient]]
MakeFaces = Callable[..., list[CodedFace]]


async def post(client: httpx2.AsyncClient, body: bytes, first: int = 0, device: str = "cam") -> httpx2.Response:
    return await client.post("/v1/frames", content=body, headers={"Edge-Device": device, "Edge-Sequence": str(first)})


async def stored(client: httpx2.AsyncClient) -> list[str]:
    return [face["id"] for face in (await client.get("/v1/faces")).json()["faces"]]


class Gate:
    """Stands in for the decoder: notes the batches, and holds them until released."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.batches: list[int] = []
        self.started, self.release = threading.Event(), threading.Event()
        decode = DecoderPool.decode

        def held(pool: DecoderPool, requests: Sequence[DecodeRequest]) -> list[np.ndarray]:
            self.batches.append(len(requests))
            self.started.set()
            assert self.release.wait(60)
            return decode(pool, requests)

        monkeypatch.setattr(DecoderPool, "decode", held)

    async def hold(self, client: httpx2.AsyncClient) -> "asyncio.Task[httpx2.Response]":
        """Ask for cam-0, and return once its batch is running."""
        task = asyncio.create_task(client.get("/v1/faces/cam-0.png"))
        assert await asyncio.to_thread(self.started.wait, 60)
        return task


async def queued(app: FastAPI, count: int) -> None:
    """Return once `count` faces wait for the decoder."""
    async with asyncio.timeout(60):
        while app.state.backend.load().queued != count:
            await asyncio.sleep(0.01)


async def test_stream_becomes_faces(
    serve: Serve, entry: CatalogEntry, decoder: FaceDecoder, make_faces: MakeFaces
) -> None:
    faces = make_faces(2)
    async with serve() as client:
        answer = await post(client, entry.codec.encode_stream(faces), 41)
        assert answer.status_code == 200
        assert answer.json() == {
            "device": "cam", "first": 41, "count": 2, "stored": 2, "extended": 0, "duplicate": 0,
        }  # fmt: skip
        assert await stored(client) == ["cam-41", "cam-42"]
        for layers in (1, 2, 3, None):
            png = await client.get("/v1/faces/cam-42.png", params={"layers": layers} if layers else {})
            assert png.headers["content-type"] == "image/png"
            assert png.headers["edge-layers"] == str(layers or 3)
            assert png.headers["cache-control"] == "private, no-cache"
            picture = cv2.imdecode(np.frombuffer(png.content, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
            assert np.array_equal(picture, decoder.decode([faces[1].truncate(layers or 3, entry.config.layer_ends)])[0])


async def test_face_image_differs_by_layers(serve: Serve, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    async with serve() as client:
        await post(client, entry.codec.encode_stream(make_faces(1)))
        pictures = {(await client.get(f"/v1/faces/cam-0.png?layers={layers}")).content for layers in (1, 2, 3)}
        assert len(pictures) == 3


async def test_frames_retry_and_extension(serve: Serve, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    (face,) = make_faces(1)
    short = face.truncate(1, entry.config.layer_ends)
    async with serve() as client:
        for sent, expected in ((short, "stored"), (short, "duplicate"), (face, "extended"), (short, "duplicate")):
            answer = (await post(client, entry.codec.encode_stream([sent]))).json()
            assert answer[expected] == 1
            assert answer["stored"] + answer["extended"] + answer["duplicate"] == 1
        (kept,) = (await client.get("/v1/faces")).json()["faces"]
        assert (kept["layers"], kept["bytes"]) == (3, len(entry.codec.encode_frame(face)))


async def test_frames_number_conflict(serve: Serve, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    first, second, third = make_faces(3)
    async with serve() as client:
        await post(client, entry.codec.encode_stream([first]), 1)
        other = third.truncate(1, entry.config.layer_ends)
        for clash in ([second, third], [second, other]):
            answer = await post(client, entry.codec.encode_stream(clash), 0)
            assert answer.status_code == 409
            assert "cam-1 is already another face" in answer.json()["error"]
        assert await stored(client) == ["cam-1"]


async def test_faces_pagination(serve: Serve, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    async with serve() as client:
        await post(client, entry.codec.encode_stream(make_faces(5)))
        seen, after = [], 0
        for size in (2, 2, 1):
            page = (await client.get("/v1/faces", params={"after": after, "limit": 2})).json()
            assert len(page["faces"]) == size
            seen += [face["sequence"] for face in page["faces"]]
            after = page["next"]
        assert (seen, after) == ([0, 1, 2, 3, 4], None)


async def test_face_image_unknown(serve: Serve, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    async with serve() as client:
        await post(client, entry.codec.encode_stream(make_faces(1, layers=1)))
        assert (await client.get("/v1/faces/cam-0.png")).headers["edge-layers"] == "1"
        for path in ("cam-1.png", "cam-00.png", "nobody.png", "cam-0.png?layers=2"):
            answer = await client.get(f"/v1/faces/{path}")
            assert answer.status_code == 404
            assert answer.json()["error"]
        assert (await client.get("/v1/faces/cam-0.png?layers=16")).status_code == 422


async def test_restart_keeps_faces(serve: Serve, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    async with serve() as client:
        await post(client, entry.codec.encode_stream(make_faces(2)))
        before = (await client.get("/v1/faces/cam-1.png")).content
    async with serve() as client:
        assert await stored(client) == ["cam-0", "cam-1"]
        assert (await client.get("/v1/faces/cam-1.png")).content == before
        assert (await post(client, entry.codec.encode_stream(make_faces(2)))).json()["duplicate"] == 2


async def test_models_and_probes(serve: Serve, entry: CatalogEntry) -> None:
    async with serve() as client:
        (model,) = (await client.get("/v1/models")).json()["models"]
        assert (model["name"], model["model_id"]) == ("tiny", entry.model_id.hex())
        assert (model["device"], model["precision"], model["config"]["groups"]) == ("cpu", "float32", 2)
        for probe, more in (("/health", {}), ("/ready", {"decoder": "none"})):
            answer = await client.get(probe)
            assert (answer.status_code, answer.json()) == (200, {"ok": True, "reason": None, **more})


async def test_face_image_concurrent_requests_batched(
    serve: Serve,
    make_app: MakeApp,
    entry: CatalogEntry,
    decoder: FaceDecoder,
    make_faces: MakeFaces,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = Gate(monkeypatch)
    faces = make_faces(9)
    app = make_app(max_batch=4)
    async with serve(app=app) as client:
        await post(client, entry.codec.encode_stream(faces))
        asks = [await gate.hold(client)]
        asks += [asyncio.create_task(client.get(f"/v1/faces/cam-{n}.png?layers={n % 3 + 1}")) for n in range(1, 9)]
        await queued(app, 8)
        gate.release.set()
        answers = await asyncio.gather(*asks)
    assert gate.batches == [1, 4, 4]
    for number, answer in enumerate(answers):
        layers = number % 3 + 1 if number else 3
        picture = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
        alone = decoder.decode([faces[number].truncate(layers, entry.config.layer_ends)])[0]
        assert np.abs(picture.astype(int) - alone.astype(int)).max() <= 1


async def test_face_image_full_queue(
    serve: Serve, make_app: MakeApp, entry: CatalogEntry, make_faces: MakeFaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    app = make_app(queue_size=1)
    async with serve(app=app) as client:
        await post(client, entry.codec.encode_stream(make_faces(3)))
        running = await gate.hold(client)
        waiting = asyncio.create_task(client.get("/v1/faces/cam-1.png"))
        await queued(app, 1)
        refused = await client.get("/v1/faces/cam-2.png")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert "busy" in refused.json()["error"]
        ready = await client.get("/ready")
        assert (ready.status_code, ready.json()["reason"]) == (503, "the decoder's queue of 1 is full")
        assert (await client.get("/health")).status_code == 200
        gate.release.set()
        assert [(await running).status_code, (await waiting).status_code] == [200, 200]
        assert (await client.get("/v1/faces/cam-2.png")).status_code == 200


async def test_face_image_client_disconnect(
    serve: Serve, make_app: MakeApp, entry: CatalogEntry, make_faces: MakeFaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    app = make_app()
    async with serve(app=app) as client:
        await post(client, entry.codec.encode_stream(make_faces(3)))
        running = await gate.hold(client)
        hung_up = await ask_and_hang_up(app, "/v1/faces/cam-1.png")
        patient = asyncio.create_task(client.get("/v1/faces/cam-2.png"))
        await queued(app, 1)
        gate.release.set()
        assert (await running).status_code == (await patient).status_code == 200
    assert hung_up == [499]
    assert gate.batches == [1, 1]


async def ask_and_hang_up(app: FastAPI, path: str) -> list[int]:
    """GET `path` from a client that goes away after 0.1 s; the statuses the application tried to send."""
    statuses: list[int] = []
    messages = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, object]:
        if messages:
            return messages.pop()
        await asyncio.sleep(0.1)
        return {"type": "http.disconnect"}

    async def send(message: dict[str, int]) -> None:
        if "status" in message:
            statuses.append(message["status"])

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
        "headers": [(b"host", b"127.0.0.1")], "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1),
    }  # fmt: skip
    await app(scope, receive, send)
    return statuses


async def test_health_failing_decoder(
    serve: Serve, entry: CatalogEntry, make_faces: MakeFaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = True
    decode = DecoderPool.decode

    def maybe(pool: DecoderPool, requests: Sequence[DecodeRequest]) -> list[np.ndarray]:
        if broken:
            raise RuntimeError("out of memory")
        return decode(pool, requests)

    monkeypatch.setattr(DecoderPool, "decode", maybe)
    async with serve() as client:
        await post(client, entry.codec.encode_stream(make_faces(1)))
        for _ in range(backend.MAX_FAILURES):
            assert (await client.get("/health")).status_code == 200
            answer = await client.get("/v1/faces/cam-0.png")
            assert answer.status_code == 500
            assert "memory" not in answer.text
        health = await client.get("/health")
        assert (health.status_code, health.json()["reason"]) == (503, "the last 3 batches failed")
        broken = False
        assert (await client.get("/v1/faces/cam-0.png")).status_code == 200
        assert (await client.get("/health")).status_code == 200


async def test_health_hung_decoder(
    serve: Serve, entry: CatalogEntry, make_faces: MakeFaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    monkeypatch.setattr(backend, "STALLED_SECONDS", 0.05)
    async with serve() as client:
        await post(client, entry.codec.encode_stream(make_faces(1)))
        ask = await gate.hold(client)
        await asyncio.sleep(0.1)
        assert (await client.get("/health")).status_code == 503
        gate.release.set()
        assert (await ask).status_code == 200
        assert (await client.get("/health")).status_code == 200


async def test_face_image_earlier_model(
    serve: Serve, entry: CatalogEntry, make_faces: MakeFaces, tmp_path: Path
) -> None:
    from edge_stscq.codec.store import create

    other = tmp_path / "other"
    create(other, entry.config, seed=1)
    async with serve() as client:
        await post(client, entry.codec.encode_stream(make_faces(1)))
    async with serve(model=other) as client:
        assert await stored(client) == ["cam-0"]
        answer = await client.get("/v1/faces/cam-0.png")
        assert answer.status_code == 409
        assert entry.model_id.hex() in answer.json()["error"]
        assert (await post(client, entry.codec.encode_stream(make_faces(1)))).status_code == 409
