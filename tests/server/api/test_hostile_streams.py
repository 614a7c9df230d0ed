"""POST /v2/frames: files that are refused whole, in one line, and of which nothing is stored."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_stscq.errors import EdgeError
from edge_stscq.server.decoding.catalog import CatalogEntry, ModelCatalog
from edge_stscq.server.ingest import Ingest, StreamUpload
from edge_stscq.stream import CodedFace
from edge_stscq.stream.envelope import WireFrame
from edge_stscq.stream.wire import PREAMBLE, read_section, section_header
from tests.support.stored_faces import NOON, Camera
from tests.support.stream_requests import OTHER_KEY, acknowledged, post, stored

pytestmark = pytest.mark.anyio
Serve = Callable[..., AbstractAsyncContextManager[httpx2.AsyncClient]]
MakeFaces = Callable[..., list[CodedFace]]


async def refused(client: httpx2.AsyncClient, status: int, part: str, body: bytes) -> None:
    """The answer must be `status` with one line that has `part`, and the store must be empty after it."""
    answer = await post(client, body)
    assert answer.status_code == status, answer.text
    (message,) = answer.json().values()
    assert part in message
    assert "\n" not in message
    assert await stored(client) == []


async def test_streams_several_devices(serve: Serve, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    first, second = Camera(entry.codec, "door-1"), Camera(entry.codec, "door-2", key=OTHER_KEY)
    both = first.faces(make_faces(2)) + second.faces(make_faces(2))[len(PREAMBLE) :]
    async with serve() as client:
        await refused(client, 400, "the file names devices door-1 and door-2; send one at once", both)


async def test_streams_without_a_frame(serve: Serve, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    header = section_header(read_section(Camera(entry.codec).faces(make_faces(1)), len(PREAMBLE))[0])
    async with serve() as client:
        await refused(client, 400, "truncated: 0 bytes", b"")
        await refused(client, 400, "truncated: 4 bytes", b"STSQ")
        await refused(client, 400, "not a stream", b"hello, world")
        await refused(client, 400, "the file has no frame; nothing to store", PREAMBLE)
        await refused(client, 400, "the file has no frame; nothing to store", PREAMBLE + header)
        await refused(client, 400, "version 3 is unknown", b"STSQ\3" + header)


async def test_streams_of_the_other_version(serve: Serve, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    faces = make_faces(1)
    old, new = entry.codec.encode_stream(faces), Camera(entry.codec).faces(faces)
    async with serve() as client:
        await refused(client, 400, "this is a stream of version 1; it belongs to /v1/frames", old)
        headers = {"Edge-Device": "door-1", "Edge-Sequence": "0"}
        answer = await client.post("/v1/frames", content=new, headers=headers)
        assert (answer.status_code, await stored(client)) == (400, [])
        assert answer.json() == {"error": "this is a file of version 2; it belongs to /v2/frames"}


async def test_streams_truncated(serve: Serve, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    """Cut anywhere but between two frames."""
    camera, faces = Camera(entry.codec), make_faces(2)
    body, end = camera.faces(faces), len(camera.faces(faces[:1]))
    async with serve() as client:
        for size in set(range(len(body))) - {end}:
            await refused(client, 400, "", body[:size])
        assert await acknowledged(client, body[:end]) == {"stored": 1}


async def test_streams_flipped_bit(serve: Serve, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    camera = Camera(entry.codec)
    frames = [camera.frame(face, n, track=0, quality=50) for n, face in enumerate(make_faces(2, layers=1))]
    body = camera.file(*frames)
    async with serve() as client:
        for bit in range(8 * len(body)):
            flipped = bytearray(body)
            flipped[bit // 8] ^= 1 << bit % 8
            answer = await post(client, bytes(flipped))
            assert (answer.status_code, list(answer.json())) == (400, ["error"]), bit
        assert await stored(client) == []


async def test_streams_too_large(serve: Serve, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    body = Camera(entry.codec).faces(make_faces(3))

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield body

    async with serve(max_frames=2, max_body_bytes=1000) as client:
        await refused(client, 413, "over 2 frames in one request", body)
        for content in (bytes(1001), endless()):
            answer = await client.post("/v2/frames", content=content)
            assert (answer.status_code, await stored(client)) == (413, [])


async def test_streams_refused_ones_count_as_frames(serve: Serve, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    foreign = Camera(entry.codec, model_id=b"\xab" * 8).faces(make_faces(3))
    async with serve(max_frames=2) as client:
        await refused(client, 413, "over 2 frames in one request", foreign)


class NoStore:
    """Takes nothing: what is damaged must not come so far."""

    def accept_all(self, *_: object) -> None:
        raise AssertionError("random bytes passed as a frame")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tail=st.binary(min_size=1, max_size=120), begin=st.sampled_from(["nothing", "preamble", "section"]))
def test_ingest_random_bytes(catalog: ModelCatalog, tail: bytes, begin: str) -> None:
    (entry,) = catalog
    source = Camera(entry.codec)
    whole = source.file(WireFrame(source.source, 0, 1, b"", NOON))
    header = section_header(read_section(whole, len(PREAMBLE))[0])
    body = {"nothing": b"", "preamble": PREAMBLE, "section": PREAMBLE + header}[begin] + tail
    (refusal,) = Ingest(catalog, NoStore(), max_frames=10).accept([StreamUpload("door-1", body)])
    assert isinstance(refusal, EdgeError)
