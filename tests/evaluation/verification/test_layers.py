"""Judging a whole codec: a model folder of random weights, and a codec that is perfect by construction."""

from pathlib import Path

import numpy as np
import pytest
import torch

from edge_stscq._progress import Progress, no_progress
from edge_stscq.bundle import model_folder
from edge_stscq.codec.model import Codec
from edge_stscq.data.crops import Faces
from edge_stscq.errors import EdgeError
from edge_stscq.evaluation.verification.layers import evaluate_layers
from edge_stscq.evaluation.verification.pairs import Pairs
from edge_stscq.recognizers import embed_cached
from edge_stscq.stream import Codes


@pytest.fixture(scope="module")
def faces() -> Faces:
    images = np.random.default_rng(0).integers(0, 256, (8, 128, 128, 3), np.uint8)
    return Faces(tuple(f"p{i}" for i in range(8)), images)


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    same = np.array([True, False, True, False])
    return Pairs(("p0", "p1", "p2", "p3"), ("p4", "p5", "p6", "p7"), same, np.array([0, 0, 1, 1]))


@pytest.mark.parametrize("encoder", ["student", "teacher"])
def test_a_model_folder_is_judged_layer_by_layer(tiny_model: Path, faces: Faces, pairs: Pairs, encoder: str) -> None:
    done: list[int] = []
    report = evaluate_layers(Codec.load(tiny_model, encoder), faces, pairs, {}, done.append)
    assert sum(done) == report.faces == 8
    assert report.subject == encoder
    assert [layer.name for layer in report.layers] == ["basic", "middle", "enhanced"]
    assert [layer.tokens for layer in report.layers] == list(model_folder.load_config(tiny_model).layer_ends)
    sizes = [layer.payload_bytes for layer in report.layers]
    assert 2 <= sizes[0] < sizes[1] < sizes[2] <= 8  # 12 tokens of 4 bits and a group of 1 bit
    assert all(layer.compressed is not None and layer.compressed.pairs == 4 for layer in report.layers)


def test_an_unfinished_model_has_a_teacher_to_judge(
    tiny_model: Path, tmp_path: Path, faces: Faces, pairs: Pairs
) -> None:
    for name in ("config.json", "identity", "teacher", "codebooks", "decoder"):
        file = name if name.endswith(".json") else f"{name}.safetensors"
        (tmp_path / file).write_bytes((tiny_model / file).read_bytes())
    report = evaluate_layers(Codec.load(tmp_path, "teacher"), faces, pairs, {})
    assert [layer.payload_bytes for layer in report.layers] == [3, 5, 7]  # 1 + 16, 32, 48 bits
    assert not report.layers[0].entropy_coded
    with pytest.raises(EdgeError, match="student.safetensors"):
        Codec.load(tmp_path, "student").encode(faces.images)


def test_identity_is_read_from_the_identity_tokens_only(tiny_model: Path, faces: Faces) -> None:
    codec = Codec.load(tiny_model)
    codes = codec.encode(faces.images)
    unit = codec.embed(codes, 3)
    assert np.allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-5)
    for position, matters in [(0, True), (1, True), (2, False), (3, False), (4, True), (11, False)]:
        changed = codes.tokens.copy()
        changed[:, position] = (changed[:, position] + 1) % 16
        same = np.array_equal(codec.embed(Codes(codes.group, changed, 3), 3), unit)
        assert same != matters, position
    tail = codes.tokens.copy()
    tail[:, 4:] = 0
    assert np.array_equal(codec.embed(Codes(codes.group, tail, 3), 1), codec.embed(codes, 1))


def test_analysis_agrees_with_the_encoder(tiny_model: Path, faces: Faces) -> None:
    codec = Codec.load(tiny_model)
    analysed, codes = codec.analyze(faces.images), codec.encode(faces.images)
    assert np.array_equal(analysed.codes.group, codes.group)
    assert np.array_equal(analysed.codes.tokens, codes.tokens)
    assert analysed.margin.shape == codes.tokens.shape
    assert (analysed.margin >= 0).all()


class Exact(Codec):
    """A codec that keeps the color of the corner, and nothing else."""

    def encode(self, crops: np.ndarray, layers: int | None = None, progress: Progress = no_progress) -> Codes:
        return Codes(np.zeros(len(crops), np.int32), np.tile(crops[:, 0, 0].astype(np.int32), 4), 3)

    def decode(self, codes: Codes, layers: int | None = None) -> np.ndarray:
        colors = codes.tokens[:, None, None, :3]
        return np.broadcast_to(colors, (len(codes), 128, 128, 3)).astype(np.uint8)

    def embed(self, codes: Codes, layers: int | None = None) -> np.ndarray:
        return codes.tokens[:, :3].astype(np.float32) - 100


class Brightness(torch.nn.Module):
    """A recogniser that sees the mean colour."""

    def embed(self, crops: np.ndarray) -> np.ndarray:
        mean = crops.reshape(len(crops), -1, 3).mean(axis=1).astype(np.float32) - 100
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def test_a_lossless_codec_verifies_like_the_originals(tiny_model: Path, pairs: Pairs) -> None:
    """People are colours; the codec keeps them, so decoded pictures verify as the originals do: perfectly."""
    colors = [(255, 100, 100), (100, 255, 100), (100, 100, 255), (255, 255, 100)]
    other = [colors[0], colors[2], colors[2], colors[2]]
    images = np.stack([np.full((128, 128, 3), c, np.uint8) for c in colors + other])
    faces = Faces(tuple(f"p{i}" for i in range(8)), images)
    codec = Exact.load(tiny_model)
    codec.tables = None  # colors are no tokens of the model
    report = evaluate_layers(codec, faces, pairs, {"brightness": Brightness()})
    assert report.originals["brightness"].accuracy == 1
    for layer in report.layers:
        assert layer.psnr is None
        assert layer.identity["brightness"] == pytest.approx(1)
        assert layer.decoded["brightness"] == report.originals["brightness"]
        assert layer.compressed is not None
        assert layer.compressed.accuracy == 1


class Counted(Brightness):
    """A recogniser that counts the pictures it looks at."""

    name = "counted"

    def __init__(self) -> None:
        super().__init__()
        self.looked = 0

    def embed(self, crops: np.ndarray) -> np.ndarray:
        self.looked += len(crops)
        return super().embed(crops)


def test_originals_are_embedded_once(faces: Faces, tmp_path: Path) -> None:
    net = Counted()
    first = embed_cached(net, faces.images, tmp_path)
    again = embed_cached(net, faces.images[::-1], tmp_path)
    assert net.looked == len(faces)
    assert np.array_equal(first, again[::-1])
    np.testing.assert_allclose(first, net.embed(faces.images), atol=1e-6)
    changed = faces.images.copy()
    changed[0, 0, 0] ^= 1
    embed_cached(net, changed, tmp_path)
    assert net.looked == 2 * len(faces) + 1


def test_other_weights_have_other_vectors(faces: Faces, tmp_path: Path) -> None:
    """The cache of a network is not read for another one of the same name."""
    for value in (0.0, 1.0):
        net = Counted()
        net.weight = torch.nn.Parameter(torch.tensor(value))
        embed_cached(net, faces.images, tmp_path)
        assert net.looked == len(faces)


def test_chosen_layers_only(tiny_model: Path, faces: Faces, pairs: Pairs) -> None:
    report = evaluate_layers(Codec.load(tiny_model), faces, pairs, {}, layers=[1, 3])
    assert [layer.name for layer in report.layers] == ["basic", "enhanced"]
