"""Matching on the device gives the server's cosines, without torch."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_stscq.bundle import model_folder, open_bundle
from edge_stscq.codec import store
from edge_stscq.codec.identity import IdentityHead
from edge_stscq.codec.matching import Matcher as TorchMatcher
from edge_stscq.device import Matcher
from edge_stscq.errors import EdgeError
from edge_stscq.server.decoding.catalog import ModelCatalog
from edge_stscq.server.matching.memory import FaceIndex
from edge_stscq.stream import CodedFace
from edge_stscq.stream.envelope import Source, WireFrame, device_stream_id
from tests.conftest import REPOSITORY
from tests.support.bundles.unrun_bundle import write_unrun_bundle
from tests.support.models.integer_model import write_integer_model
from tests.support.models.tiny_model import write_tiny_model
from tests.support.stored_faces import row_of

MODELS: dict[str, Callable[[Path], Path]] = {
    "tiny": lambda folder: off_center(write_tiny_model(folder, ("basic", "middle", "enhanced"))),
    "tiny-15": lambda folder: off_center(write_tiny_model(folder, [f"layer-{n}" for n in range(15)])),
    "tiny-integer": lambda folder: off_center(write_integer_model(folder)),
    "face64": lambda _: REPOSITORY / "models" / "face64",
    "face128": lambda _: REPOSITORY / "models" / "face128",
}
FACES = 40
WITHOUT_TORCH = """
import sys
import numpy as np
from edge_stscq.bundle import open_bundle
from edge_stscq.bundle.matcher import Matcher
from edge_stscq.stream import CodedFace

bundle, expected = open_bundle(sys.argv[1]), np.load(sys.argv[2])
matcher = Matcher.of(bundle)
for layers, end in enumerate(bundle.config.layer_ends, start=1):
    faces = [CodedFace(*face, layers) for face in zip(expected["groups"], expected["tokens"][:, :end])]
    found, right = matcher.embed(faces), expected[f"embeddings {layers}"]
    assert (found.dtype, found.shape) == (np.float32, right.shape), (found.dtype, found.shape)
    print(layers, abs(found - right).max(), abs(found @ found.T - right @ right.T).max())
assert not {"torch", "executorch", "coremltools"} & sys.modules.keys()
"""


def off_center(model: Path) -> Path:
    """Give a model of random weights a mean and a center that differ, as trained ones have."""
    student = store.load_student(model)
    head = student.head if isinstance(student.head, IdentityHead) else student.head.identity
    generator = torch.Generator().manual_seed(3)
    for tensor in (head.mean, head.centre, head.projection):
        tensor.add_(0.1 * torch.randn(tensor.shape, generator=generator))
    store.save_student(model, student)
    return model


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return MODELS[request.param](tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="module")
def bundle(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_unrun_bundle(tmp_path_factory.mktemp("bundle") / "bundle", model)


@pytest.fixture(scope="module")
def tiny_bundle(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_unrun_bundle(tmp_path_factory.mktemp("bundle") / "bundle", tiny_model)


def random_faces(model: Path, count: int) -> list[CodedFace]:
    """Whole faces of any tokens."""
    config, random = model_folder.load_config(model), np.random.default_rng(5)
    return [
        CodedFace(int(random.integers(config.groups)), random.integers(config.entries, size=config.tokens), layers)
        for layers in [len(config.layers)] * count
    ]


def test_embeddings_are_those_of_torch_at_every_layer(model: Path, bundle: Path, tmp_path: Path) -> None:
    faces = random_faces(model, FACES)
    groups, tokens = np.array([face.group for face in faces]), np.stack([face.tokens for face in faces])
    matcher, count = TorchMatcher.load(model), len(model_folder.load_config(model).layers)
    expected = {
        f"embeddings {layers}": matcher(torch.from_numpy(groups), torch.from_numpy(tokens.astype(np.int64)), layers)
        for layers in range(1, count + 1)
    }
    np.savez(tmp_path / "expected.npz", groups=groups, tokens=tokens, **expected)
    command = [sys.executable, "-P", "-c", WITHOUT_TORCH, str(bundle), str(tmp_path / "expected.npz")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [int(layers) for layers, *_ in rows] == list(range(1, count + 1))
    for _, embedding, cosine in rows:
        assert float(embedding) < 1e-5
        assert float(cosine) < 1e-5


def test_cosines_are_those_of_the_server_for_faces_of_different_layers(model: Path, bundle: Path) -> None:
    matcher = Matcher.of(open_bundle(bundle))
    ends = matcher.config.layer_ends
    faces = [face.truncate(1 + number % len(ends), ends) for number, face in enumerate(random_faces(model, 12))]
    (entry,) = ModelCatalog([model])
    index = FaceIndex(entry, len(faces))
    source = Source(device_stream_id("cam"), "cam", entry.model_id)
    stored = [
        row_of(WireFrame(source, n, face.layers, entry.codec.payload(face)), n + 1) for n, face in enumerate(faces)
    ]
    index.add(stored)
    compared = 0
    for query in faces:
        for hit in index.search(query, len(faces)):
            other = faces[int(hit.id.removeprefix("cam-"))]
            assert matcher.cosine(query, other) == pytest.approx(hit.cosine, abs=1e-5)
            assert matcher.cosine(other, query) == pytest.approx(hit.cosine, abs=1e-5)
            compared += 1
    assert compared > len(faces)


def test_embed_takes_the_layers_that_all_faces_have(tiny_model: Path, tiny_bundle: Path) -> None:
    matcher, (first, second) = Matcher.of(open_bundle(tiny_bundle)), random_faces(tiny_model, 2)
    short = second.truncate(2, matcher.config.layer_ends)
    np.testing.assert_array_equal(matcher.embed([first, short]), matcher.embed([first, second], 2))
    assert not np.allclose(matcher.embed([first]), matcher.embed([first], 2))
    assert matcher.embed([]).shape == (0, 128)
    np.testing.assert_allclose(np.linalg.norm(matcher.embed([first, second]), axis=1), 1, atol=1e-6)
    assert matcher.cosine(first, first) == pytest.approx(1, abs=1e-6)


def test_layers_without_identity_tokens_say_nothing(sums_bundle: Path) -> None:
    bundle = open_bundle(sums_bundle)
    layers = tuple(layer.model_copy(update={"identity": 0, "identity_dims": 0}) for layer in bundle.config.layers)
    nobody = bundle.config.model_copy(update={"layers": layers})
    face = CodedFace(0, np.zeros(2, np.uint16), 1)
    assert not Matcher(nobody, bundle.books, bundle.projection).embed([face]).any()


def test_embed_refuses_what_it_cannot_compare(tiny_model: Path, tiny_bundle: Path) -> None:
    matcher, (face,) = Matcher.of(open_bundle(tiny_bundle)), random_faces(tiny_model, 1)
    short = face.truncate(1, matcher.config.layer_ends)
    with pytest.raises(EdgeError, match="a face has fewer than 2 layers; compare by the layers that all faces have"):
        matcher.embed([face, short], 2)
    with pytest.raises(EdgeError, match="cannot take 4 layers: model tiny has 3 layers"):
        matcher.embed([face], 4)
    with pytest.raises(EdgeError, match="cannot take 4 layers"):
        matcher.cosine(face, CodedFace(0, face.tokens, 4))
    for other in (
        CodedFace(2, face.tokens, 3), CodedFace(-1, face.tokens, 3), CodedFace(0, face.tokens[:-1], 3),
        CodedFace(0, face.tokens + 16, 3),
    ):  # fmt: skip
        with pytest.raises(EdgeError, match="the face is of another model than tiny; match it with the bundle"):
            matcher.embed([other])
