"""Search by example: real portraits by their tokens, who may see what, and bad input."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import cv2
import httpx2
import numpy as np
import pytest
import torch
from fastapi import FastAPI

from demo_camera.sample_portraits import portraits
from edge_stscq._images import read_image
from edge_stscq.codec.store import create, load_student
from edge_stscq.device.crop import crop_face
from edge_stscq.device.detect import Detector
from edge_stscq.server.decoding.catalog import CatalogEntry, ModelCatalog
from edge_stscq.server.matching import indexes
from edge_stscq.server.matching.indexes import FaceIndexes
from edge_stscq.server.matching.memory import FaceIndex
from edge_stscq.server.storage.change_feed import ChangeFeed
from edge_stscq.server.storage.face_store import StoredFace
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from edge_stscq.stream import CodedFace
from edge_stscq.stream.envelope import Source, WireFrame, device_stream_id
from tests.support.stored_faces import Camera, accept, row_of

MakeApp = Callable[..., FastAPI]
Serve = Callable[..., AbstractAsyncContextManager[httpx2.AsyncClient]]
MakeFaces = Callable[..., list[CodedFace]]
Issue = Callable[..., str]


@pytest.fixture(scope="module")
def people(model_dir: Path) -> dict[str, CodedFace]:
    """Two portraits and a darker, blurred picture of each, as the released student codes them."""
    detector, crops = Detector(), {}
    for name, path in portraits().items():
        picture = read_image(path)
        face = detector.largest(picture)
        assert face is not None
        crops[name] = crop_face(picture, face.points)
        crops[f"{name} again"] = cv2.GaussianBlur((crops[name] * 0.8).astype(np.uint8), (3, 3), 0)
    student = load_student(model_dir).eval()
    with torch.inference_mode():
        groups, tokens = student(torch.from_numpy(np.stack(list(crops.values()))))
    return {
        name: CodedFace(int(group), row.numpy().astype(np.uint16), len(student.config.layers))
        for name, group, row in zip(crops, groups, tokens, strict=True)
    }


async def post(
    client: httpx2.AsyncClient, entry: CatalogEntry, faces: list[CodedFace], device: str, token: str = ""
) -> None:
    headers = {"Edge-Device": device, "Edge-Sequence": "0", "Authorization": f"Bearer {token or '-'}"}
    answer = await client.post("/v1/frames", content=entry.codec.encode_stream(faces), headers=headers)
    assert answer.status_code == 200


async def found(client: httpx2.AsyncClient, count: int, body: object, token: str = "", **query: object) -> list[str]:
    """Ids of the answer, once the index holds `count` faces."""
    sent = {"json": body} if isinstance(body, dict) else {"content": body}
    headers = {"Authorization": f"Bearer {token or '-'}"}
    async with asyncio.timeout(30):
        while True:
            answer = await client.post("/v1/match", params=query, headers=headers, **sent)
            assert answer.status_code == 200
            page = answer.json()
            if page["searched"] == count and page["complete"]:
                break
            await asyncio.sleep(0.02)
    scores = [face["score"] for face in page["faces"]]
    assert scores == sorted(scores, reverse=True)
    assert all(query.get("min_cosine", -1) <= face["cosine"] <= 1 for face in page["faces"])
    return [face["id"] for face in page["faces"]]


@pytest.mark.anyio
async def test_match_same_person_first(
    serve: Serve, model_dir: Path, people: dict[str, CodedFace], make_app: MakeApp
) -> None:
    hopper, hopper_again, collins, collins_again = (
        people[name] for name in ("grace_hopper", "grace_hopper again", "astronaut", "astronaut again")
    )
    app = make_app(model=model_dir)
    (entry,) = app.state.catalog
    async with serve(app=app) as client:
        await post(client, entry, [hopper, collins], "door-1")
        await post(client, entry, [collins_again], "door-2")
        for layers in range(1, hopper.layers + 1):
            stream = entry.codec.encode_stream([hopper_again])
            assert (await found(client, 3, stream, layers=layers))[0] == "door-1-0"
            assert (await found(client, 3, {"face": "door-1-1"}, layers=layers))[:2] == ["door-1-1", "door-2-0"]
        basic = entry.codec.encode_stream([hopper.truncate(1, entry.config.layer_ends)])
        assert await found(client, 3, basic, min_cosine=0.99) == ["door-1-0"]
        assert await found(client, 3, basic, limit=1) == ["door-1-0"]
        assert await found(client, 3, basic, device="door-2") == ["door-2-0"]
        assert await found(client, 3, basic, device="nobody") == []


@pytest.mark.anyio
async def test_match_says_who_is_whom_and_nobody(
    serve: Serve, model_dir: Path, people: dict[str, CodedFace], make_app: MakeApp
) -> None:
    hopper, again, collins = (people[name] for name in ("grace_hopper", "grace_hopper again", "astronaut"))
    app = make_app(model=model_dir)
    (entry,) = app.state.catalog
    assert entry.rule is not None
    async with serve(app=app) as client:
        await post(client, entry, [hopper], "door-1")
        await found(client, 1, entry.codec.encode_stream([hopper]))
        for layers in range(1, hopper.layers + 1):
            limits = entry.rule.thresholds.limits(layers)
            for face, verdict in ((again, "same person"), (collins, "nobody here")):
                query = {"layers": str(layers)}
                answer = await client.post(
                    "/v1/match", params=query, content=entry.codec.encode_stream([face]),
                    headers={"Authorization": "Bearer -"},
                )  # fmt: skip
                page = answer.json()
                (best,) = page["faces"]
                units = entry.matcher.embed([face, hopper], layers)
                score = float(entry.rule.scores(units[:1], units[1:], layers)[0, 0])
                assert best["score"] == pytest.approx(score, abs=1e-4)
                assert page["verdict"] == best["verdict"] == limits.verdict(score) == verdict
                passed = limits.passed(score)
                rate = None if passed is None else passed.false_match_rate
                assert (page["false_match_rate"], page["expected_strangers"]) == (rate, rate)  # of one face
                strict = {"score": limits.same_person.score, "false_match_rate": 1e-4}
                assert page["thresholds"]["same_person"] == strict


@pytest.mark.anyio
async def test_match_of_empty_store_is_nobody_and_of_unmeasured_model_unknown(
    serve: Serve, model_dir: Path, people: dict[str, CodedFace], make_app: MakeApp, make_faces: MakeFaces,
    entry: CatalogEntry,
) -> None:  # fmt: skip
    app = make_app(model=model_dir)
    (measured,) = app.state.catalog
    for one, own, face in ((app, measured, people["astronaut"]), (None, entry, make_faces(1)[0])):
        async with serve(app=one) as client:
            stream = own.codec.encode_stream([face])
            answer = await client.post("/v1/match", content=stream, headers={"Authorization": "Bearer -"})
            page = answer.json()
            assert page["verdict"] == ("nobody here" if one else None)
            assert (page["thresholds"] is None) == (one is None)
            assert page["faces"] == []


@pytest.mark.anyio
async def test_match_limited_to_device_of_token(
    serve: Serve, issue: Issue, entry: CatalogEntry, make_faces: MakeFaces
) -> None:
    faces = make_faces(2)
    fleet, door, reader = issue("*", "send", "match"), issue("door", "match"), issue("*", "read")
    stream = entry.codec.encode_stream(faces[:1])
    async with serve() as client:
        await post(client, entry, faces, "door", fleet)
        await post(client, entry, faces, "cam", fleet)
        assert (await found(client, 4, stream, fleet))[:2] == ["door-0", "cam-0"]
        assert await found(client, 2, stream, door) == ["door-0", "door-1"]
        for token, body, query, status in (
            (door, b'{"face": "cam-0"}', "", 403), (door, stream, "?device=cam", 403), (reader, stream, "", 403),
            (door + "x", stream, "", 401), (door, b'{"face": "door-1"}', "", 200),
        ):  # fmt: skip
            headers = {"Authorization": f"Bearer {token}"}
            assert (await client.post(f"/v1/match{query}", content=body, headers=headers)).status_code == status


@pytest.mark.anyio
async def test_match_after_restart_and_extension(serve: Serve, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    face, other = make_faces(2)
    short = [one.truncate(1, entry.config.layer_ends) for one in (face, other)]
    whole = entry.codec.encode_stream([face])
    async with serve() as client:
        await post(client, entry, short, "cam")
        assert await found(client, 2, whole, layers=1, min_cosine=0.999) == ["cam-0"]
        assert await found(client, 2, whole, layers=2) == []
        await post(client, entry, [face], "cam")
    async with serve() as client:
        assert await found(client, 2, whole, layers=3) == ["cam-0"]
        assert (await found(client, 2, whole))[0] == "cam-0"


@pytest.mark.anyio
async def test_match_bad_input(serve: Serve, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    faces = make_faces(2)
    one, short = (entry.codec.encode_stream(sent) for sent in (faces[:1], make_faces(1, layers=1)))
    async with serve(max_body_bytes=4096) as client:
        await post(client, entry, faces, "cam")
        for status, content, query in (
            (400, b"", ""),
            (400, b"hello", ""),
            (400, b"[" * 4000, ""),
            (400, b'{"face": 5}', ""),
            (400, b'{"face": "cam-0", "more": 1}', ""),
            (400, b'{"face": "' + b"x" * 101 + b'"}', ""),
            (404, b'{"face": "cam-9"}', ""),
            (404, b'{"face": "../cam"}', ""),
            (400, entry.codec.encode_stream(faces), ""),
            (400, entry.codec.header(), ""),
            (400, one[:-1], ""),
            (400, one[:-1] + bytes([one[-1] ^ 1]), ""),
            (409, one[:5] + bytes(8) + one[13:], ""),
            (400, short, "?layers=2"),
            (413, b"x" * 5000, ""),
            (422, one, "?layers=0"),
            (422, one, "?layers=16"),
            (422, one, "?limit=101"),
            (422, one, "?min_cosine=1.5"),
            (422, one, "?min_cosine=nan"),
            (422, one, "?device=a%20b"),
        ):
            answer = await client.post(f"/v1/match{query}", content=content)
            assert (answer.status_code, list(answer.json())) == (status, ["error"]), (content[:40], query)
            assert "\n" not in answer.json()["error"]


@pytest.mark.anyio
async def test_match_files_of_version_2(serve: Serve, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    camera, faces = Camera(entry.codec), make_faces(3)
    one = camera.faces(faces[:1])
    async with serve() as client:
        assert (await client.post("/v2/frames", content=camera.faces(faces[:2]))).json()["stored"] == 2
        await post(client, entry, faces[2:], "cam")
        assert (await found(client, 3, one, limit=1)) == [f"{camera.stream}-0"]
        assert (await found(client, 3, {"face": f"{camera.stream}-1"}, limit=1)) == [f"{camera.stream}-1"]
        assert (await found(client, 3, camera.faces(faces[2:]), limit=1)) == ["cam-0"]
        assert (await found(client, 3, entry.codec.encode_stream(faces[:1]), limit=1)) == [f"{camera.stream}-0"]
        foreign, template = (
            Camera(entry.codec, **other).faces(faces[:1]) for other in ({"model_id": b"\xab" * 8}, {"kind": 1})
        )
        for status, body, part in (
            (400, camera.faces(faces[:2]), "a search is for one face"), (400, one[:-1], "truncated"),
            (400, b"STSQ\2", "no frame"), (409, foreign, "ab" * 8), (400, template, "a protected template"),
        ):  # fmt: skip
            answer = await client.post("/v1/match", content=body)
            assert (answer.status_code, part in answer.json()["error"]) == (status, True), answer.text


def frame(entry: CatalogEntry, face: CodedFace, number: int, device: str = "cam") -> WireFrame:
    source = Source(device_stream_id(device), device, entry.model_id)
    return WireFrame(source, number, face.layers, entry.codec.payload(face))


def stored(entry: CatalogEntry, face: CodedFace, number: int, revision: int) -> StoredFace:
    return row_of(frame(entry, face, number), number, revision)


@pytest.fixture
def index(entry: CatalogEntry) -> FaceIndex:
    return FaceIndex(entry, 3)


def test_face_index_cosines(index: FaceIndex, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    faces = make_faces(3)
    index.add([stored(entry, face, number, number + 1) for number, face in enumerate(faces)])
    for layers in (1, 2, 3):
        rows = entry.matcher.embed(faces, layers)
        assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
        expected = sorted(zip(rows @ rows[1], range(3), strict=True), reverse=True)
        best = index.search(faces[1].truncate(layers, entry.config.layer_ends), 3)
        assert [one.id for one in best] == [f"cam-{number}" for _, number in expected]
        assert np.allclose([one.cosine for one in best], [cosine for cosine, _ in expected], atol=1e-5)


def test_face_index_evicts_oldest(index: FaceIndex, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    faces = make_faces(5)
    index.add([stored(entry, face, number, number + 1) for number, face in enumerate(faces)])
    assert (len(index), index.revision) == (3, 5)
    index.add([stored(entry, faces[2], 2, 6)])
    assert sorted(one.id for one in index.search(faces[4].truncate(1, entry.config.layer_ends), 9)) == [
        "cam-2",
        "cam-3",
        "cam-4",
    ]
    for number in (2, 3, 4):
        assert index.search(faces[number], 1)[0].id == f"cam-{number}"


def test_face_index_skips_foreign_and_damaged(
    index: FaceIndex, entry: CatalogEntry, make_faces: MakeFaces, caplog: pytest.LogCaptureFixture
) -> None:
    (face,) = make_faces(1)
    good = stored(entry, face, 0, 1)
    other = good._replace(row=1, sequence=1, model=b"87654321", revision=2)
    damaged = good._replace(row=2, sequence=2, revision=3)
    caplog.set_level(logging.ERROR)
    index.add([good, other, damaged])
    assert (len(index), index.revision) == (1, 3)
    (record,) = caplog.records
    assert "face cam-2 is damaged" in record.getMessage()


@pytest.mark.anyio
async def test_follow_changes_recovers_from_failure(
    index: FaceIndex, entry: CatalogEntry, make_faces: MakeFaces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexes, "RETRY_SECONDS", 0.01)
    store, add, failed = SqlFaceStore(tmp_path / "faces.db"), index.add, False

    def fails_once(changes: list[StoredFace]) -> None:
        nonlocal failed
        if not failed:
            failed = True
            raise OSError("gone")
        add(changes)

    monkeypatch.setattr(index, "add", fails_once)
    (face,) = make_faces(1)
    async with ChangeFeed(store) as feed, asyncio.timeout(30):
        task = asyncio.create_task(indexes.follow_changes(FaceIndexes({entry.model_id: index}), feed, 3))
        await asyncio.to_thread(accept, store, [frame(entry, face, 0)])
        while len(index) == 0:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    store.close()
    assert failed


@pytest.mark.anyio
async def test_match_earlier_model_not_searched(
    serve: Serve, entry: CatalogEntry, make_faces: MakeFaces, tmp_path: Path
) -> None:
    create(tmp_path / "other", entry.config, seed=1)
    async with serve() as client:
        await post(client, entry, make_faces(1), "cam")
    async with serve(model=tmp_path / "other") as client:
        (later,) = ModelCatalog([tmp_path / "other"])
        await post(client, later, make_faces(1), "new")
        assert await found(client, 1, later.codec.encode_stream(make_faces(1))) == ["new-0"]
        assert (await client.post("/v1/match", json={"face": "cam-0"})).status_code == 409
