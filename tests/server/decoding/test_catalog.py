"""Several models behind one server, and each device's way of running them."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

import cv2
import httpx2
import numpy as np
import pytest
import torch

from edge_stscq.codec.store import create
from edge_stscq.errors import EdgeError
from edge_stscq.server.decoding.catalog import Models, Order
from edge_stscq.server.decoding.face_decoder import FaceDecoder, Job
from edge_stscq.server.decoding.profile import PROFILES, ExecutionProfile
from edge_stscq.stream import CodedFace

Serve = Callable[..., AbstractAsyncContextManager[httpx2.AsyncClient]]
MakeFaces = Callable[..., list[CodedFace]]

FIXED = ExecutionProfile("float32", max_batch=6, compiler=None, fixed_shapes=True)


@pytest.fixture(scope="module")
def other(service: FaceDecoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model of the same shape."""
    folder = tmp_path_factory.mktemp("other")
    create(folder, service.config, seed=1)
    return folder


def mixed(make_faces: MakeFaces, count: int) -> list[Job]:
    """Jobs of one, two and three layers in turn."""
    return [Job(face, 1 + number % 3) for number, face in enumerate(make_faces(count))]


def difference(first: np.ndarray, second: np.ndarray) -> int:
    return int(np.abs(first.astype(int) - second.astype(int)).max())


def seen_batches(service: FaceDecoder, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes at which the network is run from now on."""
    sizes: list[int] = []
    decode = service._decode

    def watched(group: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        sizes.append(len(group))
        return decode(group, *rest)

    monkeypatch.setattr(service, "_decode", watched)
    return sizes


def test_profile_shapes() -> None:
    assert FIXED.shapes == (1, 2, 4, 6)
    assert [FIXED.padded(count) for count in range(1, 7)] == [1, 2, 4, 4, 6, 6]
    assert PROFILES["cuda"].shapes == (1, 2, 4, 8, 16, 32, 64)
    assert replace(FIXED, max_batch=1).shapes == (1,)
    free = replace(FIXED, fixed_shapes=False)
    assert [free.padded(count) for count in range(1, 7)] == [1, 2, 3, 4, 5, 6]


def test_decoder_result_independent_of_batch(service: FaceDecoder, make_faces: MakeFaces) -> None:
    jobs = mixed(make_faces, 8)
    together = service.decode(jobs)
    for number, job in enumerate(jobs):
        assert difference(service.decode([job])[0], together[number]) <= 1
    assert difference(service.decode(jobs[::-1])[::-1], together) <= 1


def test_decoder_fixed_shapes(
    tiny_model: Path, service: FaceDecoder, make_faces: MakeFaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed = FaceDecoder(tiny_model, policy=FIXED)
    sizes = seen_batches(fixed, monkeypatch)
    jobs = mixed(make_faces, 9)
    for count in (3, 5, 9):
        decoded = fixed.decode(jobs[:count])
        assert decoded.shape == (count, 128, 128, 3)
        assert difference(decoded, service.decode(jobs[:count])) <= 1
    assert sizes == [4, 6, 6, 4]
    fixed.warm_up()
    assert sizes[4:] == [1, 2, 4, 6]


def test_decoder_warm_up_compiles_every_shape(tiny_model: Path, make_faces: MakeFaces) -> None:
    """The path that CUDA takes, with the back end that generates no code."""
    compiled: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., object]:
        compiled.append(len(compiled))
        return graph.forward

    torch._dynamo.reset()
    torch._dynamo.register_backend(backend, name="counting")
    policy = replace(FIXED, max_batch=2, compiler="counting")
    service, second = (FaceDecoder(tiny_model, policy=each) for each in (policy, replace(policy, max_batch=1)))
    service.warm_up()
    assert len(compiled) == 2
    second.warm_up()
    assert len(compiled) == 3
    jobs = mixed(make_faces, 3)
    plain = FaceDecoder(tiny_model, policy=FIXED).decode(jobs)
    for each in (service, second):
        assert difference(each.decode(jobs), plain) <= 1
    assert len(compiled) == 3
    torch._dynamo.reset()


def test_decoder_bfloat16_accuracy(model_dir: Path) -> None:
    half = FaceDecoder(model_dir, policy=replace(FIXED, precision="bfloat16"))
    full = FaceDecoder(model_dir)
    random, config = np.random.default_rng(0), full.config
    tokens = random.integers(config.entries, size=(3, config.tokens)).astype(np.uint16)
    jobs = [Job(CodedFace(number % config.groups, row, 3), number + 1) for number, row in enumerate(tokens)]
    exact, decoded = full.decode(jobs), half.decode(jobs)
    error = np.square(exact.astype(float) - decoded).mean()
    assert 0 < error < 255**2 / 10**3.5
    alone = np.concatenate([half.decode([job]) for job in jobs])
    assert np.square(decoded.astype(float) - alone).mean() < 255**2 / 10**3.5


def test_decoder_too_many_layers(service: FaceDecoder, make_faces: MakeFaces) -> None:
    for layers in (0, 2):
        with pytest.raises(ValueError, match="cannot be decoded from"):
            service.decode([Job(make_faces(1, layers=1)[0], layers)])


def test_pool_of_two_models(tiny_model: Path, other: Path, make_faces: MakeFaces) -> None:
    models = Models([tiny_model, other])
    first, second = models
    jobs = mixed(make_faces, 5)
    orders = [Order(models.find((first, second)[number % 2].model_id, "it"), job) for number, job in enumerate(jobs)]
    for order, picture in zip(orders, models.decode(orders), strict=True):
        assert difference(picture, order.service.decode([order.job])[0]) <= 1
    assert difference(*(service.decode(jobs) for service in models)) > 1
    with pytest.raises(EdgeError, match="a second time; name each model once"):
        Models([tiny_model, other, tiny_model])


def test_content_key(tiny_model: Path, other: Path, make_faces: MakeFaces) -> None:
    service, foreign = Models([tiny_model, other])
    face, different = make_faces(2)
    short = face.truncate(1, service.config.layer_ends)
    key = Order(service, Job(face, 1)).key
    assert Order(service, Job(short, 1)).key == key
    others = [
        Order(service, Job(face, 2)), Order(service, Job(face, 3)), Order(foreign, Job(face, 1)),
        Order(service, Job(different, 1)), Order(service, Job(CodedFace(1 - face.group, face.tokens, 3), 1)),
    ]  # fmt: skip
    assert len({key, *(order.key for order in others)}) == 6


@pytest.mark.anyio
async def test_server_of_two_models(
    serve: Serve, service: FaceDecoder, make_faces: MakeFaces, tiny_model: Path, other: Path
) -> None:
    services, faces = (service, FaceDecoder(other)), make_faces(2)

    async def ask(client: httpx2.AsyncClient) -> list[httpx2.Response]:
        return [await client.get(f"/v1/faces/cam-{number}.png") for number in range(2)]

    async with serve(model=(tiny_model, other)) as client:
        for number, (each, face) in enumerate(zip(services, faces, strict=True)):
            headers = {"Edge-Device": "cam", "Edge-Sequence": str(number)}
            answer = await client.post("/v1/frames", content=each.codec.encode_stream([face]), headers=headers)
            assert answer.json()["stored"] == 1
        held = (await client.get("/v1/models")).json()["models"]
        assert [model["model_id"] for model in held] == [each.model_id.hex() for each in services]
        for each, face, answer in zip(services, faces, await ask(client), strict=True):
            picture = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
            assert difference(picture, each.decode([Job(face, 3)])[0]) <= 1
    async with serve(model=other) as client:
        answers = await ask(client)
    assert [answer.status_code for answer in answers] == [409, 200]
    assert f"of model {service.model_id.hex()}" in answers[0].json()["error"]
    assert "with that --model" in answers[0].json()["error"]
