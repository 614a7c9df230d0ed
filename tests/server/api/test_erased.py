"""A face that is erased in the store is gone from everything that a running server answers."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, closing
from pathlib import Path

import httpx2
import pytest

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
