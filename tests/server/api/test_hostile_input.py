"""Bytes and clients that mean harm: refused in one line of JSON, and nothing stored."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_stscq.errors import EdgeError
from edge_stscq.server.app import create_app
from edge_stscq.server.decoding.catalog import CatalogEntry, ModelCatalog
from edge_stscq.server.ingest import FrameUpload, Ingest
from edge_stscq.server.settings import ServerSettings
from edge_stscq.stream import HEADER_BYTES, CodedFace, FrameCodec

pytestmark = pytest.mark.anyio
Serve = Callable[..., AbstractAsyncContextManager[httpx2.AsyncClient]]
MakeFaces = Callable[..., list[CodedFace]]
HEADERS = {"Edge-Device": "cam", "Edge-Sequence": "0"}


async def refused(client: httpx2.AsyncClient, status: int, part: str, **request: object) -> None:
    """POST; the answer must be `status` with one line that has `part`, and the store must be empty after it."""
    answer = await client.post("/v1/frames", **{"headers": HEADERS, **request})
    assert answer.status_code == status
    (message,) = answer.json().values()
    assert part in message
    assert "\n" not in message
    assert (await client.get("/v1/faces")).json() == {"faces": [], "next": None}


async def test_frames_truncated_body(serve: Serve, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    codec = entry.codec
    faces = make_faces(2)
    body = codec.encode_stream(faces)
    boundary = HEADER_BYTES + len(codec.encode_frame(faces[0]))
    async with serve() as client:
        for size in set(range(len(body))) - {boundary}:
            await refused(client, 400, "", content=body[:size])


async def test_frames_flipped_bit(serve: Serve, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    body = entry.codec.encode_stream(make_faces(1))
    async with serve() as client:
        for bit in range(8 * len(body)):
            flipped = bytearray(body)
            flipped[bit // 8] ^= 1 << bit % 8
            answer = await client.post("/v1/frames", headers=HEADERS, content=bytes(flipped))
            in_model_id = 5 <= bit // 8 < HEADER_BYTES
            assert answer.status_code == (409 if in_model_id else 400)
            assert answer.json()["error"]
        assert (await client.get("/v1/faces")).json()["faces"] == []


async def test_frames_one_damaged_stores_none(serve: Serve, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    body = bytearray(entry.codec.encode_stream(make_faces(3)))
    body[-1] ^= 1
    async with serve() as client:
        await refused(client, 400, "frame 2", content=bytes(body))


async def test_frames_of_another_model(serve: Serve, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    foreign = FrameCodec(entry.codec.entropy, b"\xab" * 8)
    async with serve() as client:
        await refused(client, 409, "ab" * 8, content=foreign.encode_stream(make_faces(1)))
        await refused(client, 409, entry.model_id.hex(), content=foreign.encode_stream(make_faces(1)))


async def test_frames_none_and_too_many(serve: Serve, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    async with serve(max_frames=2) as client:
        await refused(client, 400, "no frame", content=entry.codec.header())
        await refused(client, 400, "truncated", content=b"")
        await refused(client, 413, "over 2 frames", content=entry.codec.encode_stream(make_faces(3)))


async def test_body_declared_too_large(serve: Serve) -> None:
    async with serve(max_body_bytes=100) as client:
        await refused(client, 413, "over 100 bytes", content=b"x" * 101)


async def test_body_undeclared_too_large(serve: Serve) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 64
            yield b"x" * 64

    async with serve(max_body_bytes=1000) as client:
        await refused(client, 413, "over 1000 bytes", content=endless())
        assert sent <= 1064
        await refused(client, 413, "over 1000 bytes", content=endless(), headers=HEADERS | {"Content-Length": "9"})
        await refused(client, 413, "over 1000", content=endless(), headers=HEADERS | {"Content-Length": "-٣".encode()})


async def test_body_too_slow(serve: Serve) -> None:
    async def stuck() -> AsyncIterator[bytes]:
        yield b"S"
        await asyncio.sleep(30)

    async with serve(body_seconds=0.1) as client:
        await refused(client, 408, "0.1 seconds", content=stuck())


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Edge-Device": "cam"},
        {"Edge-Sequence": "0"},
        {"Edge-Device": "", "Edge-Sequence": "0"},
        {"Edge-Device": "../cam", "Edge-Sequence": "0"},
        {"Edge-Device": "c" * 65, "Edge-Sequence": "0"},
        {"Edge-Device": "cam", "Edge-Sequence": "-1"},
        {"Edge-Device": "cam", "Edge-Sequence": "one"},
        {"Edge-Device": "cam", "Edge-Sequence": str(2**53)},
    ],
)
async def test_frames_bad_headers(
    serve: Serve, entry: CatalogEntry, make_faces: MakeFaces, headers: dict[str, str]
) -> None:
    async with serve() as client:
        await refused(client, 422, "Edge-", content=entry.codec.encode_stream(make_faces(1)), headers=headers)


async def test_frames_last_sequence_number(serve: Serve, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    last = {"Edge-Device": "cam", "Edge-Sequence": str(2**53 - 1)}
    async with serve() as client:
        await refused(client, 400, "end at", content=entry.codec.encode_stream(make_faces(2)), headers=last)
        answer = await client.post("/v1/frames", content=entry.codec.encode_stream(make_faces(1)), headers=last)
        assert answer.status_code == 200
        assert (await client.get(f"/v1/faces/cam-{2**53 - 1}.png")).status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.1:8377", "localhost", "[::1]:8377", "127.0.0.1@evil.example", "nginx"])
async def test_guard_without_any_token_lets_nobody_in(
    tiny_model: Path, tmp_path: Path, serve: Serve, host: str
) -> None:
    """Also not its own machine: a proxy there shows nothing of whom it speaks for."""
    app = create_app(ServerSettings(model=(tiny_model,), store=tmp_path / "faces.db"))
    async with serve(app=app) as client:
        for path in ("/v1/models", "/v1/faces", "/v1/faces/cam-0.png", "/metrics"):
            assert (await client.get(path, headers={"Host": host})).status_code in (400, 401)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tail=st.binary(max_size=80), with_header=st.booleans())
def test_ingest_random_bytes(catalog: ModelCatalog, tail: bytes, with_header: bool) -> None:
    class NoStore:
        def accept_all(self, *_: object) -> None:
            raise AssertionError("random bytes passed as a frame")

    (entry,) = catalog
    ingest = Ingest(catalog, NoStore(), max_frames=10)
    (refusal,) = ingest.accept([FrameUpload("cam", 0, (entry.codec.header() if with_header else b"") + tail)])
    assert isinstance(refusal, EdgeError)
