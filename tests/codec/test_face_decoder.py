"""Face decoder: the same picture in any batch, and each device's way of running the network."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edge_stscq.codec.execution_profile import PROFILES, ExecutionProfile
from edge_stscq.codec.face_decoder import FaceDecoder
from edge_stscq.errors import EdgeError
from edge_stscq.stream import CodedFace

FIXED = ExecutionProfile("float32", max_batch=6, compiler=None, fixed_shapes=True)


@pytest.fixture(scope="module")
def decoder(tiny_model: Path) -> FaceDecoder:
    return FaceDecoder(tiny_model)


def mixed_faces(decoder: FaceDecoder, count: int) -> list[CodedFace]:
    """Random faces of one, two, ... and all layers in turn."""
    random, config = np.random.default_rng(0), decoder.config
    ends = config.layer_ends
    layers = [1 + number % len(ends) for number in range(count)]
    return [
        CodedFace(
            int(random.integers(config.groups)), random.integers(config.entries, size=ends[n - 1]).astype(np.uint16), n
        )
        for n in layers
    ]


def difference(first: np.ndarray, second: np.ndarray) -> int:
    return int(np.abs(first.astype(int) - second.astype(int)).max())


def batch_sizes(decoder: FaceDecoder, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes at which the network is run from now on."""
    sizes: list[int] = []
    network = decoder._network

    def watched(group: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        sizes.append(len(group))
        return network(group, *rest)

    monkeypatch.setattr(decoder, "_network", watched)
    return sizes


def test_profile_shapes() -> None:
    assert FIXED.shapes == (1, 2, 4, 6)
    assert [FIXED.padded(count) for count in range(1, 7)] == [1, 2, 4, 4, 6, 6]
    assert PROFILES["cuda"].shapes == (1, 2, 4, 8, 16, 32, 64)
    assert replace(FIXED, max_batch=1).shapes == (1,)
    free = replace(FIXED, fixed_shapes=False)
    assert [free.padded(count) for count in range(1, 7)] == [1, 2, 3, 4, 5, 6]


def test_decode_independent_of_batch(decoder: FaceDecoder) -> None:
    faces = mixed_faces(decoder, 8)
    together = decoder.decode(faces)
    for number, face in enumerate(faces):
        assert difference(decoder.decode([face])[0], together[number]) <= 1
    assert difference(decoder.decode(faces[::-1])[::-1], together) <= 1
    assert decoder.decode([]).shape == (0, 128, 128, 3)


def test_decode_fixed_shapes(tiny_model: Path, decoder: FaceDecoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are padded, and only their faces come back."""
    fixed = FaceDecoder(tiny_model, profile=FIXED)
    sizes = batch_sizes(fixed, monkeypatch)
    faces = mixed_faces(decoder, 9)
    for count in (3, 5, 9):
        decoded = fixed.decode(faces[:count])
        assert decoded.shape == (count, 128, 128, 3)
        assert difference(decoded, decoder.decode(faces[:count])) <= 1
    assert sizes == [4, 6, 6, 4]
    fixed.warm_up()
    assert sizes[4:] == [1, 2, 4, 6]


def test_warm_up_compiles_every_shape(tiny_model: Path, decoder: FaceDecoder) -> None:
    """The path that CUDA takes, with the back end that generates no code."""
    compiled: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        compiled.append(len(compiled))
        return graph.forward

    torch._dynamo.reset()
    torch._dynamo.register_backend(backend, name="counting")
    profile = replace(FIXED, max_batch=2, compiler="counting")
    first, second = (FaceDecoder(tiny_model, profile=each) for each in (profile, replace(profile, max_batch=1)))
    first.warm_up()
    assert len(compiled) == 2
    second.warm_up()
    assert len(compiled) == 3
    faces = mixed_faces(decoder, 3)
    for each in (first, second):
        assert difference(each.decode(faces), decoder.decode(faces)) <= 1
    assert len(compiled) == 3
    torch._dynamo.reset()


def test_decode_bfloat16_accuracy(model_dir: Path) -> None:
    half = FaceDecoder(model_dir, profile=replace(FIXED, precision="bfloat16"))
    full = FaceDecoder(model_dir)
    faces = mixed_faces(full, 3)
    exact, decoded = full.decode(faces), half.decode(faces)
    error = np.square(exact.astype(float) - decoded).mean()
    assert 0 < error < 255**2 / 10**3.5
    alone = np.concatenate([half.decode([face]) for face in faces])
    assert np.square(decoded.astype(float) - alone).mean() < 255**2 / 10**3.5


def test_decoder_of_unknown_device(tiny_model: Path) -> None:
    with pytest.raises(EdgeError, match="unknown device 'tpu'; use cpu or cuda"):
        FaceDecoder(tiny_model, "tpu")
