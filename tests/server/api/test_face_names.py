"""Names of faces: by stream and number, and by device and number if they came by version 1."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import httpx2
import pytest

from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.stream import CodedFace
from edge_stscq.stream.envelope import device_stream_id
from tests.support.stored_faces import Camera
from tests.support.stream_requests import acknowledged, post

pytestmark = pytest.mark.anyio
Serve = Callable[..., AbstractAsyncContextManager[httpx2.AsyncClient]]
MakeFaces = Callable[..., list[CodedFace]]
Issue = Callable[..., str]


async def post_1(
    client: httpx2.AsyncClient, entry: CatalogEntry, faces: list[CodedFace], device: str, token: str = "-"
) -> None:
    headers = {"Edge-Device": device, "Edge-Sequence": "0", "Authorization": f"Bearer {token}"}
    answer = await client.post("/v1/frames", content=entry.codec.encode_stream(faces), headers=headers)
    assert answer.json()["stored"] == len(faces)


async def listed(client: httpx2.AsyncClient) -> list[str]:
    return [face["id"] for face in (await client.get("/v1/faces")).json()["faces"]]


async def picture(client: httpx2.AsyncClient, name: str, token: str = "-") -> tuple[int, str | None]:
    """Status, and the tag, which is of the tokens."""
    answer = await client.get(f"/v1/faces/{name}.png", headers={"Authorization": f"Bearer {token}"})
    return answer.status_code, answer.headers.get("etag")


async def test_face_names_of_both_versions(serve: Serve, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    camera, (first, second) = Camera(entry.codec, "cam-1"), make_faces(2)
    async with serve() as client:
        await post(client, camera.faces([first]))
        await post_1(client, entry, [second], "cam-1")
        assert await listed(client) == [f"{camera.stream}-0", "cam-1-0"]
        tags = [await picture(client, name) for name in await listed(client)]
        assert [status for status, _ in tags] == [200, 200]
        assert tags[0] != tags[1]
        # the stream that stands for a device names its faces, too; names are in lower case and without zeros
        assert await picture(client, f"{device_stream_id('cam-1').hex()}-0") == tags[1]
        for name in (f"{camera.stream.upper()}-0", f"{camera.stream}-00", f"{camera.stream}-1", camera.stream, "cam-0"):
            assert (await picture(client, name))[0] == 404


async def test_face_names_of_a_device_called_like_a_stream(
    serve: Serve, entry: CatalogEntry, make_faces: MakeFaces
) -> None:
    """Its faces are named by their stream, so that they never have the name of another face."""
    camera, (first, second, third) = Camera(entry.codec), make_faces(3)
    lonely = "0123456789abcdef" * 2
    async with serve() as client:
        await post(client, camera.faces([first]))
        await post_1(client, entry, [second], camera.stream)
        await post_1(client, entry, [third], lonely)
        names = await listed(client)
        assert names == [f"{stream}-0" for stream in (
            camera.stream, device_stream_id(camera.stream).hex(), device_stream_id(lonely).hex(),
        )]  # fmt: skip
        tags = [await picture(client, name) for name in names]
        assert len(set(tags)) == 3
        assert {status for status, _ in tags} == {200}
        # who asks by the device's name finds its face if no stream has that id
        assert await picture(client, f"{lonely}-0") == tags[2]
        assert await picture(client, f"{camera.stream}-0") == tags[0]
        # and each is found by example, under its own name
        while not (page := (await client.post("/v1/match", json={"face": names[1]})).json())["complete"]:
            pass
        assert sorted(face["id"] for face in page["faces"]) == sorted(names)
        assert page["faces"][0]["id"] == names[1]


async def test_face_names_show_no_other_devices_faces(
    serve: Serve, issue: Issue, entry: CatalogEntry, make_faces: MakeFaces
) -> None:
    """A token sees its own device's faces, whichever name they are asked by."""
    lonely = "0123456789abcdef" * 2
    mine, named, fleet = issue("door-1", "read", "match"), issue(lonely, "read", "match"), issue("*", "send")
    own, other = Camera(entry.codec), Camera(entry.codec, "door-2", key=bytes(15) + b"\1")
    async with serve() as client:
        for body in (own.faces(make_faces(1)), other.faces(make_faces(1))):
            assert (await post(client, body, fleet)).status_code == 200
        await post_1(client, entry, make_faces(1), lonely, fleet)
        by_stream = device_stream_id(lonely).hex()
        for name, token, status in (
            (own.stream, mine, 200), (other.stream, mine, 403), ("door-2", mine, 403), (lonely, mine, 403),
            (by_stream, mine, 403), ("f" * 32, mine, 404), (lonely, named, 200), (by_stream, named, 200),
            (own.stream, named, 403), ("door-1", named, 403),
        ):  # fmt: skip
            assert (await picture(client, f"{name}-0", token))[0] == status, name
            headers = {"Authorization": f"Bearer {token}"}
            answer = await client.post("/v1/match", json={"face": f"{name}-0"}, headers=headers)
            assert answer.status_code == status


async def test_face_info_of_both_versions(serve: Serve, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    synchronized, (face,) = Camera(entry.codec), make_faces(1)
    guessed = Camera(entry.codec, "b", key=bytes(15) + b"\1", clock=1)
    timeless = Camera(entry.codec, "c", key=bytes(15) + b"\2", clock=0)
    files = (
        synchronized.file(synchronized.frame(face, 2**53 - 1, 1_700_000_000_123, track=2**32 - 2, quality=0)),
        guessed.file(guessed.frame(face, 0, 0, quality=100)),
        guessed.file(guessed.frame(face, 1, 2**48 - 1, track=0)),
        timeless.file(timeless.frame(face, 0)),
    )
    async with serve() as client:
        for body in files:
            assert await acknowledged(client, body) == {"stored": 1}
        await post_1(client, entry, [face], "old")
        found = (await client.get("/v1/faces")).json()["faces"]
    size = len(entry.codec.encode_frame(face))
    expected = [
        (synchronized.stream, 2**53 - 1, "door-1", "synchronized", "2023-11-14T22:13:20.123000Z", 2**32 - 2, 0),
        (guessed.stream, 0, "b", "unsynchronized", "1970-01-01T00:00:00Z", None, 100),
        (guessed.stream, 1, "b", "unsynchronized", "9999-12-31T23:59:59Z", 0, None),
        (timeless.stream, 0, "c", "none", None, None, None),
        (device_stream_id("old").hex(), 0, "old", "none", None, None, None),
    ]
    names = ("stream", "sequence", "device", "clock", "captured", "track", "quality")
    assert [tuple(one[name] for name in names) for one in found] == expected
    assert [one["id"] for one in found] == [
        *(f"{stream}-{number}" for stream, number, *_ in expected[:4]), "old-0",
    ]  # fmt: skip
    assert {(one["layers"], one["bytes"], one["model_id"]) for one in found} == {(3, size, entry.model_id.hex())}
