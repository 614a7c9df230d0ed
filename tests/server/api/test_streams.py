"""POST /v2/frames: what is kept, who may send it, and what is told of it."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import httpx2
import pytest

from edge_stscq.server.auth import audit_log as audit
from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.stream import CodedFace
from edge_stscq.stream.envelope import Clock
from edge_stscq.stream.wire import PREAMBLE
from tests.support.audit_lines import audit_lines
from tests.support.stored_faces import NOON, Camera
from tests.support.stream_requests import OTHER_KEY, acknowledged, post, stored

pytestmark = pytest.mark.anyio
Serve = Callable[..., AbstractAsyncContextManager[httpx2.AsyncClient]]
MakeFaces = Callable[..., list[CodedFace]]
Issue = Callable[..., str]


async def test_streams_stored_extended_duplicate(serve: Serve, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    camera, (first, second) = Camera(entry.codec), make_faces(2)
    short = first.truncate(1, entry.config.layer_ends)
    async with serve() as client:
        answer = await post(client, camera.faces([short, second], 7))
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == {
            "device": "door-1", "count": 2, "stored": 2, "extended": 0, "duplicate": 0, "refused": [],
        }  # fmt: skip
        assert await stored(client) == [(f"{camera.stream}-7", 1), (f"{camera.stream}-8", 3)]
        assert await acknowledged(client, camera.faces([first, second], 7)) == {"extended": 1, "duplicate": 1}
        assert await acknowledged(client, camera.faces([short, second], 7)) == {"duplicate": 2}
        assert await stored(client) == [(f"{camera.stream}-7", 3), (f"{camera.stream}-8", 3)]


async def test_streams_later_layer_finds_its_face(serve: Serve, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    """Layers of one face may come in one file, in any order, and in a section far behind the first."""
    camera, faces = Camera(entry.codec), make_faces(3)
    basic = [face.truncate(1, entry.config.layer_ends) for face in faces]
    frames = [camera.frame(face, number, NOON + number) for number, face in enumerate(basic)]
    further = [camera.frame(face, number, NOON + number, quality=9) for number, face in enumerate(faces)]
    async with serve() as client:
        body = camera.file(*frames, further[1], further[0], frames[0])
        assert await acknowledged(client, body) == {"stored": 3, "extended": 2, "duplicate": 1}
        assert await acknowledged(client, camera.file(further[2])) == {"extended": 1}
        (found,) = (await client.get("/v1/faces?limit=1")).json()["faces"]
        assert (found["layers"], found["quality"]) == (3, 9)
        assert (await client.get(f"/v1/faces/{camera.stream}-2.png")).headers["edge-layers"] == "3"


async def test_streams_envelope_of_more_layers_takes_the_place(
    serve: Serve, entry: CatalogEntry, make_faces: MakeFaces
) -> None:
    camera, (face,) = Camera(entry.codec), make_faces(1)
    short = face.truncate(1, entry.config.layer_ends)
    async with serve() as client:
        await post(client, camera.file(camera.frame(short, 0, quality=10, track=1)))
        assert await acknowledged(client, camera.file(camera.frame(short, 0, quality=90))) == {"duplicate": 1}
        assert await acknowledged(client, camera.file(camera.frame(face, 0, quality=20))) == {"extended": 1}
        (found,) = (await client.get("/v1/faces")).json()["faces"]
        assert (found["quality"], found["track"]) == (20, None)


async def test_streams_known_extensions_are_kept(
    serve: Serve, entry: CatalogEntry, make_faces: MakeFaces, open_store: Callable[[Path], object], tmp_path: Path
) -> None:
    camera = Camera(entry.codec)
    frame = camera.frame(make_faces(1)[0], 0, extensions=b"\5\2ab")
    async with serve() as client:
        assert await acknowledged(client, camera.file(frame)) == {"stored": 1}
    assert open_store(tmp_path / "faces.db").find(frame.name).frame() == frame


async def test_streams_of_one_device_never_conflict(serve: Serve, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    """A new spool counts from 0 again; version 1 has a stream of its own."""
    first, second = Camera(entry.codec), Camera(entry.codec, key=OTHER_KEY)
    faces = make_faces(5)
    async with serve() as client:
        assert await acknowledged(client, first.faces(faces[:2])) == {"stored": 2}
        both = second.faces(faces[2:4]) + first.faces(faces[:2])[len(PREAMBLE) :]
        assert await acknowledged(client, both) == {"stored": 2, "duplicate": 2}
        old = {"Edge-Device": "door-1", "Edge-Sequence": "0"}
        answer = await client.post("/v1/frames", content=entry.codec.encode_stream(faces[4:]), headers=old)
        assert answer.json()["stored"] == 1
        assert [name for name, _ in await stored(client)] == [
            f"{first.stream}-0", f"{first.stream}-1", f"{second.stream}-0", f"{second.stream}-1", "door-1-0",
        ]  # fmt: skip
        (device,) = (await client.get("/v1/devices")).json()["devices"]
        assert (device["device"], device["faces"]) == ("door-1", 5)


async def test_streams_of_many_keys_in_one_request(serve: Serve, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    """As many streams as frames, and numbers as far apart as can be: a database bounds what one query may ask."""
    (face,) = make_faces(1, layers=1)
    apart = Camera(entry.codec, clock=Clock.NONE)
    body = apart.file(*(apart.frame(face, 1000 * number) for number in range(1500)))
    for number in range(1, 1501):
        camera = Camera(entry.codec, key=number.to_bytes(16, "big"), clock=Clock.NONE)
        body += camera.faces([face])[len(PREAMBLE) :]
    async with serve(max_frames=3000) as client:
        assert await acknowledged(client, body) == {"stored": 3000}
        assert await acknowledged(client, body) == {"duplicate": 3000}


async def test_streams_of_both_versions_at_once(serve: Serve, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    """Requests that share a commit are answered each by itself."""
    camera, faces = Camera(entry.codec), make_faces(4)
    bodies = [camera.faces(faces), camera.faces(faces[1:]), camera.faces(faces)[:-1], b"STSQ\2"]
    old = entry.codec.encode_stream(faces)
    async with serve() as client:
        answers = await asyncio.gather(
            *(post(client, body) for body in bodies),
            *(
                client.post("/v1/frames", content=old, headers={"Edge-Device": "door-1", "Edge-Sequence": str(first)})
                for first in (0, 2)
            ),
        )
        statuses = [answer.status_code for answer in answers]
        assert (statuses[:4], sorted(statuses[4:])) == ([200, 200, 400, 400], [200, 409])
        assert sum(answer.json().get("stored", 0) for answer in answers[:2]) == 4
        assert len(await stored(client)) == 8


async def test_streams_token_of_another_device(
    serve: Serve, issue: Issue, entry: CatalogEntry, make_faces: MakeFaces, tmp_path: Path
) -> None:
    """The device is known from the body, so it is read first, within the allowance of the token's own device."""
    mine, fleet, reader = issue("door-2", "send", "read"), issue("*", "send"), issue("door-1", "read")
    body = Camera(entry.codec).faces(make_faces(1))
    with audit.audit_log(tmp_path / "audit.jsonl"):
        async with serve(max_body_bytes=400) as client:
            for token, content, status, part in (
                ("-", body, 401, "bearer token"),
                (reader, body, 403, "send is needed"),
                (mine, body, 403, "this token is of device door-2 and not of door-1"),
                (mine, body[:-1], 403, "this token is of device door-2"),
                (mine, b"x" * 401, 413, "over 400 bytes"),
                (mine, b"STSQ", 400, "truncated"),
            ):
                answer = await post(client, content, token)
                assert (answer.status_code, part in answer.json()["error"]) == (status, True)
            headers = {"Authorization": f"Bearer {mine}"}
            assert (await client.get("/v1/faces", headers=headers)).json()["faces"] == []
            assert (await post(client, body, fleet)).json()["stored"] == 1
            assert (await client.get("/v1/faces", headers=headers)).json()["faces"] == []
    lines = audit_lines(tmp_path / "audit.jsonl")
    told = [(line["outcome"], line.get("device"), line.get("stored")) for line in lines if "POST" in line["what"]]
    assert told == [
        (401, None, None), (403, None, None), *[(403, "door-1", None)] * 2, (413, None, None), (400, None, None),
        (200, "door-1", 1),
    ]  # fmt: skip


async def test_streams_refused_in_metrics_and_audit(
    serve: Serve, entry: CatalogEntry, make_faces: MakeFaces, tmp_path: Path
) -> None:
    camera, faces = Camera(entry.codec), make_faces(3)
    foreign = Camera(entry.codec, model_id=b"\xab" * 8)
    frames = [camera.frame(faces[0], 0), foreign.frame(faces[1], 1), foreign.frame(faces[2], 2)]
    with audit.audit_log(tmp_path / "audit.jsonl"):
        async with serve() as client:
            assert (await post(client, camera.file(*frames))).status_code == 200
            assert (await post(client, camera.file(camera.frame(faces[1], 0)))).status_code == 200
            assert (await post(client, b"STSQ\2\1")).status_code == 400
            counted = (await client.get("/metrics")).text
    for line in (
        'edge_stscq_frames_total{outcome="refused"} 3.0',
        'edge_stscq_frames_total{outcome="stored"} 1.0',
        'edge_stscq_refused_bodies_total{reason="damaged"} 1.0',
        'edge_stscq_requests_total{method="POST",route="/v2/frames",status="200"} 2.0',
    ):
        assert line in counted
    lines = audit_lines(tmp_path / "audit.jsonl")
    assert [(line["count"], line["refused"]) for line in lines if line["outcome"] == 200 and "count" in line] == [
        (3, 2),
        (1, 1),
    ]
