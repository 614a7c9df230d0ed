"""A face that is erased in the store is gone from everything that a running server answers."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, closing
from pathlib import Path

import httpx2
import pytest

from edge_stscq.errors import EdgeError
from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.server.storage.face_store import FaceName
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from edge_stscq.stream import CodedFace
from tests.support.stored_faces import Camera
from tests.support.stream_requests import acknowledged

Serve = Callable[..., AbstractAsyncContextManager[httpx2.AsyncClient]]


async def eventually(ask: Callable[[], object], wanted: object) -> None:
    async with asyncio.timeout(30):
        while (found := await ask()) != wanted:  # type: ignore[misc]
            assert found is not None
            await asyncio.sleep(0.02)


@pytest.mark.anyio
async def test_erased_by_another_process(
    serve: Serve, make_app: Callable[..., object], entry: CatalogEntry, make_faces: Callable[..., list[CodedFace]],
    tmp_path: Path,
) -> None:  # fmt: skip
    camera, faces = Camera(entry.codec), make_faces(3)
    app = make_app()
    async with serve(app=app) as client:
        await acknowledged(client, camera.faces(faces))
        gone, kept = (f"{camera.stream}-{number}" for number in (1, 0))

        async def match() -> list[str]:
            answer = (await client.post("/v1/match", json={"face": kept})).json()
            return sorted(face["id"] for face in answer["faces"])

        await eventually(match, sorted(f"{camera.stream}-{number}" for number in range(3)))
        assert (await client.get(f"/v1/faces/{gone}.png")).status_code == 200
        with closing(SqlFaceStore(tmp_path / "faces.db")) as other:
            assert other.erase([FaceName(bytes.fromhex(camera.stream), 1)]) == 1
        await eventually(match, sorted(f"{camera.stream}-{number}" for number in (0, 2)))
        assert (await client.get(f"/v1/faces/{gone}.png")).status_code == 404
        assert gone not in (await client.get("/v1/faces")).text
        late = await acknowledged(client, camera.faces(faces))
        assert late == {"duplicate": 2, 1: "erased"}


@pytest.mark.anyio
async def test_erase_asks_for_its_scope_and_device(
    serve: Serve, issue: Callable[..., str], entry: CatalogEntry, make_faces: Callable[..., list[CodedFace]]
) -> None:
    camera, faces = Camera(entry.codec), make_faces(2)
    tokens = {
        "reader": issue("*", "read", "send"), "other": issue("door-2", "delete"), "own": issue("door-1", "delete"),
    }  # fmt: skip
    async with serve() as client:
        sent = await client.post(
            "/v2/frames", content=camera.faces(faces), headers={"Authorization": f"Bearer {tokens['reader']}"}
        )
        assert sent.status_code == 200

        async def erase(who: str, name: str) -> httpx2.Response:
            return await client.delete(f"/v1/faces/{name}", headers={"Authorization": f"Bearer {tokens[who]}"})

        name = f"{camera.stream}-0"
        assert [(await erase(who, name)).status_code for who in ("reader", "other")] == [403, 403]
        done = await erase("own", name)
        assert (done.status_code, done.json()) == (200, {"erased": name, "overwritten": True})
        assert (await erase("own", name)).status_code == 404
        assert (await erase("own", f"{camera.stream}-9")).status_code == 404


@pytest.mark.anyio
async def test_faces_that_are_too_old_go_while_the_server_runs(
    serve: Serve, make_app: Callable[..., object], entry: CatalogEntry, make_faces: Callable[..., list[CodedFace]]
) -> None:
    camera, faces = Camera(entry.codec), make_faces(1)
    async with serve() as client:
        await acknowledged(client, camera.faces(faces))  # captured years ago, by a clock that was right
    async with serve(app=make_app(retain=("30d",))) as client:

        async def left() -> int:
            return len((await client.get("/v1/faces")).json()["faces"])

        await eventually(left, 0)


def test_retention_that_is_no_period_is_refused_at_the_start(make_app: Callable[..., object]) -> None:
    with pytest.raises(EdgeError, match="is no period to keep faces for"):
        make_app(retain=("soon",))
