"""Several models behind one server: catalog, pool and requests."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import cv2
import httpx2
import numpy as np
import pytest

from edge_stscq.codec.face_decoder import FaceDecoder
from edge_stscq.codec.store import create
from edge_stscq.errors import EdgeError
from edge_stscq.server.decoding.catalog import CatalogEntry, ModelCatalog, WrongModelError
from edge_stscq.server.decoding.pool import DecoderPool
from edge_stscq.server.decoding.request import DecodeRequest
from edge_stscq.stream import CodedFace

Serve = Callable[..., AbstractAsyncContextManager[httpx2.AsyncClient]]
MakeFaces = Callable[..., list[CodedFace]]


@pytest.fixture(scope="module")
def other(entry: CatalogEntry, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model of the same shape."""
    folder = tmp_path_factory.mktemp("other")
    create(folder, entry.config, seed=1)
    return folder


def difference(first: np.ndarray, second: np.ndarray) -> int:
    return int(np.abs(first.astype(int) - second.astype(int)).max())


def test_catalog_of_two_models(tiny_model: Path, other: Path, entry: CatalogEntry) -> None:
    catalog = ModelCatalog([tiny_model, other])
    first, second = catalog
    assert first.model_id == entry.model_id != second.model_id
    assert catalog.find(second.model_id, "it") is second
    assert catalog.names == {first.model_id.hex(): "tiny", second.model_id.hex(): "tiny"}
    with pytest.raises(EdgeError, match="a second time; name each model once"):
        ModelCatalog([tiny_model, other, tiny_model])
    with pytest.raises(WrongModelError, match=f"it is of model {bytes(8).hex()} and this server holds .*--model"):
        catalog.find(bytes(8), "it")


def test_catalog_loads_no_decoder(tiny_model: Path, tmp_path: Path) -> None:
    """Whoever only answers requests reads no network's weights."""
    for name in ("config.json", "codebooks.safetensors", "tables.safetensors", "student.safetensors"):
        (tmp_path / name).symlink_to(tiny_model / name)
    assert len(list(ModelCatalog([tmp_path]))) == 1
    with pytest.raises(EdgeError, match=r"decoder\.safetensors does not exist"):
        DecoderPool([tmp_path])


def test_pool_of_two_models(
    tiny_model: Path, other: Path, decoder: FaceDecoder, entry: CatalogEntry, make_faces: MakeFaces
) -> None:
    ids = [each.model_id for each in ModelCatalog([tiny_model, other])]
    decoders = (decoder, FaceDecoder(other))
    faces = [
        face.truncate(1 + number % face.layers, entry.config.layer_ends) for number, face in enumerate(make_faces(5))
    ]
    requests = [DecodeRequest(ids[number % 2], face) for number, face in enumerate(faces)]
    pictures = DecoderPool([tiny_model, other]).decode(requests)
    for number, (face, picture) in enumerate(zip(faces, pictures, strict=True)):
        assert difference(picture, decoders[number % 2].decode([face])[0]) <= 1
    assert difference(*(each.decode(faces) for each in decoders)) > 1


def test_request_key(entry: CatalogEntry, make_faces: MakeFaces) -> None:
    """The key names what is decoded and nothing else."""
    face, different = make_faces(2)
    ends = entry.config.layer_ends
    cuts = [face.truncate(layers, ends) for layers in range(1, face.layers + 1)]
    key = DecodeRequest(entry.model_id, cuts[0]).key
    assert DecodeRequest(entry.model_id, make_faces(1)[0].truncate(1, ends)).key == key
    others = [
        *(DecodeRequest(entry.model_id, cut) for cut in cuts[1:]),
        DecodeRequest(bytes(8), cuts[0]),
        DecodeRequest(entry.model_id, different.truncate(1, ends)),
        DecodeRequest(entry.model_id, CodedFace(1 - face.group, cuts[0].tokens, 1)),
    ]
    assert len({key, *(other.key for other in others)}) == 1 + len(others)
    assert len(key) == 32


@pytest.mark.anyio
async def test_server_of_two_models(
    serve: Serve, entry: CatalogEntry, decoder: FaceDecoder, make_faces: MakeFaces, tiny_model: Path, other: Path
) -> None:
    entries, decoders, faces = list(ModelCatalog([tiny_model, other])), (decoder, FaceDecoder(other)), make_faces(2)

    async def ask(client: httpx2.AsyncClient) -> list[httpx2.Response]:
        return [await client.get(f"/v1/faces/cam-{number}.png") for number in range(2)]

    async with serve(model=(tiny_model, other)) as client:
        for number, (each, face) in enumerate(zip(entries, faces, strict=True)):
            headers = {"Edge-Device": "cam", "Edge-Sequence": str(number)}
            answer = await client.post("/v1/frames", content=each.codec.encode_stream([face]), headers=headers)
            assert answer.json()["stored"] == 1
        held = (await client.get("/v1/models")).json()["models"]
        assert [model["model_id"] for model in held] == [each.model_id.hex() for each in entries]
        for each, face, answer in zip(decoders, faces, await ask(client), strict=True):
            picture = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
            assert difference(picture, each.decode([face])[0]) <= 1
    async with serve(model=other) as client:
        answers = await ask(client)
    assert [answer.status_code for answer in answers] == [409, 200]
    assert f"of model {entry.model_id.hex()}" in answers[0].json()["error"]
    assert "with that --model" in answers[0].json()["error"]
