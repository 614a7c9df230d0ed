"""Tokens of one device, whatever their scope, see that device and learn nothing of others."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import httpx2
import pytest

from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.stream import CodedFace

Serve = Callable[..., AbstractAsyncContextManager[httpx2.AsyncClient]]
MakeFaces = Callable[..., list[CodedFace]]
Issue = Callable[..., str]


@pytest.mark.anyio
async def test_device_token_sees_figures_of_its_device_only(
    serve: Serve, issue: Issue, entry: CatalogEntry, make_faces: MakeFaces
) -> None:
    fleet, door = issue("*", "send", "match", "admin"), issue("door", "match", "admin")

    async def asked(method: str, path: str, token: str, **more: object) -> httpx2.Response:
        return await client.request(method, path, headers={"Authorization": f"Bearer {token}"}, **more)

    async with serve() as client:
        for device, count in (("door", 1), ("cam", 3)):
            headers = {"Authorization": f"Bearer {fleet}", "Edge-Device": device, "Edge-Sequence": "0"}
            body = entry.codec.encode_stream(make_faces(count))
            assert (await client.post("/v1/frames", content=body, headers=headers)).status_code == 200
        example = entry.codec.encode_stream(make_faces(1))
        async with asyncio.timeout(30):
            while (await asked("POST", "/v1/match", fleet, content=example)).json()["searched"] < 4:
                await asyncio.sleep(0.02)
        found = (await asked("POST", "/v1/match", door, content=example)).json()
        assert (found["searched"], [face["device"] for face in found["faces"]]) == (1, ["door"])
        mine, all_of_them = [(await asked("GET", "/metrics", token)).text for token in (door, fleet)]
        assert 'edge_stscq_device_faces{device="door"} 1.0' in mine
        assert '"cam"' not in mine
        figures = {line.partition("{")[0] for line in mine.splitlines() if line[0] != "#"}
        assert figures == {"edge_stscq_device_faces", "edge_stscq_device_last_received_seconds"}
        assert 'edge_stscq_device_faces{device="cam"} 3.0' in all_of_them


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("headers", "path", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, "/v1/faces/cam-0.png", 403),
        ({"Sec-Fetch-Site": "same-site"}, "/ready", 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, "/v1/faces", 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, "/", 200),
        ({"Sec-Fetch-Site": "same-origin"}, "/v1/faces", 200),
        ({"Sec-Fetch-Site": "none"}, "/", 200),
        ({"Host": "[::1]:8377"}, "/v1/faces", 200),
        ({"Host": "a@127.0.0.1"}, "/v1/faces", 400),
        ({"Host": "127.0.0.1:80:80"}, "/v1/faces", 400),
        ({"Host": "[::1"}, "/v1/faces", 400),
        ({"Host": "a b"}, "/", 400),
        ({"Host": ""}, "/", 400),
    ],
)
async def test_requests_of_foreign_pages_and_hosts_refused(
    serve: Serve, headers: dict[str, str], path: str, status: int
) -> None:
    async with serve() as client:
        assert (await client.get(path, headers=headers)).status_code == status


@pytest.mark.anyio
async def test_head_of_probes_and_page(serve: Serve) -> None:
    async with serve() as client:
        for path in ("/", "/health", "/ready"):
            answer = await client.head(path)
            assert (answer.status_code, answer.content) == (200, b"")
