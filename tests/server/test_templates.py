"""Protected templates at the server: kept, listed, handed to a matcher page by page, erased; never looked into."""

import asyncio
import base64
import json
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import httpx2
import pytest

from edge_stscq.protocol import Refused
from edge_stscq.server.auth.audit_log import audit_log
from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.stream import CodedFace
from edge_stscq.stream.envelope import STATIC_TABLES, Kind, WireFrame
from tests.support.stored_faces import NOON, Camera
from tests.support.stream_requests import acknowledged, stored

pytestmark = pytest.mark.anyio
Serve = Callable[..., AbstractAsyncContextManager[httpx2.AsyncClient]]
MakeFaces = Callable[..., list[CodedFace]]
Issue = Callable[..., str]
KEY = b"a protected spool"[:16]


def camera_of(entry: CatalogEntry, device: str = "door-1", key: bytes = KEY) -> Camera:
    return Camera(entry.codec, device, key, kind=Kind.PROTECTED, coder_id=STATIC_TABLES)


def templates(camera: Camera, *payloads: bytes) -> bytes:
    return camera.file(
        *(WireFrame(camera.source, number, 1, payload, NOON) for number, payload in enumerate(payloads))
    )


ONE, OTHER = bytes(range(64)), bytes(range(64, 128))


async def test_templates_are_kept_and_handed_out(serve: Serve, entry: CatalogEntry) -> None:
    camera = camera_of(entry)
    async with serve() as client:
        assert await acknowledged(client, templates(camera, ONE, OTHER)) == {"stored": 2}
        assert await acknowledged(client, templates(camera, ONE, OTHER)) == {"duplicate": 2}
        assert await acknowledged(client, templates(camera, OTHER)) == {0: Refused.CONFLICT}
        found = (await client.get("/v1/templates")).json()
        assert (found["next"], found["complete"], found["erased"]) == (2, True, [])
        assert [base64.b64decode(one["template"]) for one in found["templates"]] == [ONE, OTHER]
        assert found["templates"][0] | {"received": "", "template": ""} == {
            "id": f"{camera.stream}-0", "device": "door-1", "model_id": entry.model_id.hex(),
            "captured": "2023-11-14T22:13:20Z", "received": "", "template": "", "revision": 1,
        }  # fmt: skip


async def test_templates_stand_in_lists_as_protected(serve: Serve, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    async with serve() as client:
        await acknowledged(client, templates(camera_of(entry), ONE))
        await acknowledged(client, Camera(entry.codec).faces(make_faces(1)))
        for path in ("/v1/faces", "/v1/faces/newest"):
            faces = (await client.get(path)).json()["faces"]
            assert sorted((face["protected"], face["layers"]) for face in faces) == [(False, 3), (True, 1)], path


async def test_templates_have_no_picture_and_are_no_example(serve: Serve, entry: CatalogEntry) -> None:
    camera = camera_of(entry)
    name = f"{camera.stream}-0"
    async with serve() as client:
        await acknowledged(client, templates(camera, ONE))
        for answer in (
            await client.get(f"/v1/faces/{name}.png"),
            await client.get(f"/v1/faces/{name}.png?layers=1"),
            await client.post("/v1/match", json={"face": name}),
        ):
            assert answer.status_code == 409
            assert answer.json()["error"] == (
                f"face {name} is a protected template: there is no picture of it; ask the matcher that has its key"
            )


async def test_templates_are_found_by_no_search(
    serve: Serve, entry: CatalogEntry, make_faces: MakeFaces, caplog: pytest.LogCaptureFixture
) -> None:
    camera, (face,) = Camera(entry.codec), make_faces(1)
    async with serve(persons=True) as client:
        await acknowledged(client, templates(camera_of(entry), ONE, OTHER))
        await acknowledged(client, camera.faces([face]))
        async with asyncio.timeout(30):
            while not (found := (await client.post("/v1/match", content=camera.faces([face]))).json())["faces"]:
                await asyncio.sleep(0.05)
            while not (visits := (await client.get("/v1/visits")).json()["visits"]):
                await asyncio.sleep(0.05)
        assert [one["id"] for one in found["faces"]] == [f"{camera.stream}-0"]
        assert (found["searched"], found["faces"][0]["protected"]) == (1, False)
        assert [visit["faces"] for visit in visits] == [1]
        assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_templates_come_in_pages_beside_other_faces(
    serve: Serve, entry: CatalogEntry, make_faces: MakeFaces
) -> None:
    """A page looks at so many changes and no more, so one may hold no template and not be the last."""
    camera = camera_of(entry)
    async with serve() as client:
        await acknowledged(client, Camera(entry.codec).faces(make_faces(5)))
        await acknowledged(client, templates(camera, ONE, OTHER))
        after, seen, pages = 0, [], 0
        while True:
            page = (await client.get(f"/v1/templates?after={after}&limit=3")).json()
            assert len(page["templates"]) <= 3
            after, pages = page["next"], pages + 1
            seen += [one["revision"] for one in page["templates"]]
            if page["complete"]:
                break
        assert (seen, after, pages) == ([6, 7], 7, 3)
        assert (await client.get("/v1/templates?after=7")).json() == {
            "templates": [], "erased": [], "next": 7, "complete": True
        }  # fmt: skip
        for query in ("after=-1", "limit=0", "limit=1001", f"after={2**53}", "after=x"):
            assert (await client.get(f"/v1/templates?{query}")).status_code == 422


async def test_templates_erased_are_told_of_and_stay_away(serve: Serve, entry: CatalogEntry) -> None:
    camera = camera_of(entry)
    async with serve() as client:
        await acknowledged(client, templates(camera, ONE, OTHER))
        assert (await client.delete(f"/v1/faces/{camera.stream}-0")).json()["erased"] == f"{camera.stream}-0"
        found = (await client.get("/v1/templates?after=2")).json()
        assert (found["templates"], found["erased"], found["next"]) == ([], [f"{camera.stream}-0"], 3)
        assert await acknowledged(client, templates(camera, ONE, OTHER)) == {"duplicate": 1, 0: Refused.ERASED}
        assert await stored(client) == [(f"{camera.stream}-1", 1)]


async def test_templates_of_one_device_for_its_token(serve: Serve, entry: CatalogEntry, issue: Issue) -> None:
    tokens = {name: issue(name, "templates") for name in ("door-1", "door-2", "*")}
    send = issue("*", "send", "read")
    async with serve() as client:
        for number, device in enumerate(("door-1", "door-2")):
            body = templates(camera_of(entry, device, bytes([number] * 16)), ONE)
            answer = await client.post("/v2/frames", content=body, headers={"Authorization": f"Bearer {send}"})
            assert answer.json()["stored"] == 1
        for name, devices in (("door-1", ["door-1"]), ("door-2", ["door-2"]), ("*", ["door-1", "door-2"])):
            answer = await client.get("/v1/templates", headers={"Authorization": f"Bearer {tokens[name]}"})
            assert [one["device"] for one in answer.json()["templates"]] == devices
        refused = await client.get("/v1/templates", headers={"Authorization": f"Bearer {send}"})
        assert (refused.status_code, refused.json()["error"]) == (
            403, "this token may send, read; templates is needed here"
        )  # fmt: skip


async def test_templates_are_audited_and_idle_looks_are_not(
    serve: Serve, entry: CatalogEntry, tmp_path: Path
) -> None:
    camera, log = camera_of(entry), tmp_path / "audit.jsonl"
    with audit_log(log):
        async with serve() as client:
            await acknowledged(client, templates(camera, ONE, OTHER))
            for after in (0, 2, 2):
                await client.get(f"/v1/templates?after={after}")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    shown = [line for line in lines if line["what"] == "GET /v1/templates"]
    assert [(line["count"], line["faces"]) for line in shown] == [(2, {camera.stream: "0-1"})]
    assert base64.b64encode(ONE).decode() not in log.read_text()
