"""The codec as one object, on a model folder of random weights."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_stscq._released import MODEL
from edge_stscq.bundle import model_folder
from edge_stscq.codec import store
from edge_stscq.codec.face_decoder import FaceDecoder
from edge_stscq.codec.model import Codec, as_crops
from edge_stscq.errors import EdgeError, FrameError
from edge_stscq.stream import CodedFace, Codes


@pytest.fixture(scope="module")
def crops() -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (18, 128, 128, 3), np.uint8)


@pytest.fixture(scope="module")
def codec(tiny_model: Path) -> Codec:
    return Codec.load(tiny_model)


def test_encode_gives_all_layers_or_the_first(codec: Codec, crops: NDArray[np.uint8]) -> None:
    done: list[int] = []
    codes = codec.encode(crops, progress=done.append)
    assert (codes.tokens.shape, codes.layers, sum(done)) == ((18, 12), 3, 18)
    assert codec.encode(crops, layers=1).equal_tokens(codes.truncate(1, codec.config.layer_ends)).all()
    with pytest.raises(EdgeError, match="choose 1 to 3"):
        codec.encode(crops, layers=4)


def test_one_crop_is_a_batch_of_one(codec: Codec, crops: NDArray[np.uint8]) -> None:
    assert codec.encode(crops[4]).equal_tokens(codec.encode(crops)[4:5]).all()
    assert len(codec.encode(crops[:0])) == 0


def test_decode_is_the_servers(codec: Codec, crops: NDArray[np.uint8], tiny_model: Path) -> None:
    codes = codec.encode(crops[:3])
    faces = codec.decode(codes, layers=2)
    assert faces.shape == (3, 128, 128, 3)
    assert faces.dtype == np.uint8
    expected = FaceDecoder(tiny_model).decode([face.truncate(2, codec.config.layer_ends) for face in codes])
    assert np.array_equal(faces, expected)
    mixed = [codes[0].truncate(1, codec.config.layer_ends), codes[1]]
    assert np.array_equal(codec.decode(mixed), FaceDecoder(tiny_model).decode(mixed))


@pytest.mark.parametrize(("group", "tokens"), [(0, [1] * 11), (2, [1] * 12), (0, [16] * 12)])
def test_decode_refuses_codes_of_another_model(codec: Codec, group: int, tokens: list[int]) -> None:
    with pytest.raises(EdgeError):
        codec.decode([CodedFace(group, np.array(tokens), 3)])
    with pytest.raises(EdgeError):
        codec.embed(Codes([group], [tokens], 3))


def test_compress_and_decompress(codec: Codec, crops: NDArray[np.uint8]) -> None:
    data = codec.compress(crops[:3], layers=2)
    assert [face.layers for face in codec.frames.read(data)] == [2, 2, 2]
    assert np.array_equal(codec.decompress(data), codec.decode(codec.encode(crops[:3]), layers=2))
    assert np.array_equal(codec.decompress(data, layers=1), codec.decode(codec.encode(crops[:3]), layers=1))
    with pytest.raises(FrameError):
        codec.decompress(data[:-1])


def test_embed_gives_unit_vectors(codec: Codec, crops: NDArray[np.uint8]) -> None:
    codes = codec.encode(crops[:4])
    cosines = codec.embed(codes[:1]) @ codec.embed(codes).T
    assert cosines.dtype == np.float32
    assert cosines[0, 0] == pytest.approx(1, abs=1e-5)
    assert codec.embed(codes.truncate(1, codec.config.layer_ends)) == pytest.approx(codec.embed(codes, layers=1))
    with pytest.raises(EdgeError, match="cannot cut"):
        codec.embed(codes.truncate(1, codec.config.layer_ends), layers=3)


def test_parts_are_loaded_when_they_are_used(tiny_model: Path, tmp_path: Path, crops: NDArray[np.uint8]) -> None:
    folder = tmp_path / "half"
    shutil.copytree(tiny_model, folder)
    (folder / "decoder.safetensors").unlink()
    codec = Codec.load(folder)
    codes = codec.encode(crops[:1])
    with pytest.raises(EdgeError, match=r"decoder\.safetensors does not exist"):
        codec.decode(codes)
    (folder / "tables.safetensors").unlink()
    with pytest.raises(EdgeError, match="no frequency tables"):
        Codec.load(folder).compress(crops[:1])


def test_modules_in_memory_are_the_folders_codec(codec: Codec, crops: NDArray[np.uint8], tiny_model: Path) -> None:
    other = Codec.from_modules(
        store.load_student(tiny_model), store.load_decoder(tiny_model), tables=model_folder.load_tables(tiny_model)
    )
    assert other.frames.model_id == codec.frames.model_id
    assert other.compress(crops[:2]) == codec.compress(crops[:2])
    assert np.array_equal(other.decompress(codec.compress(crops[:2])), codec.decompress(codec.compress(crops[:2])))
    codes = codec.encode(crops[:2])
    assert other.embed(codes) == pytest.approx(codec.embed(codes))


def test_teacher_encodes_and_embeds(tiny_model: Path, crops: NDArray[np.uint8]) -> None:
    teacher = Codec.load(tiny_model, "teacher")
    assert teacher.name == "teacher"
    assert np.linalg.norm(teacher.embed(teacher.encode(crops[:2])), axis=1) == pytest.approx(1, abs=1e-5)


def test_integer_model(integer_model: Path, crops: NDArray[np.uint8]) -> None:
    codec = Codec.load(integer_model)
    assert codec.decompress(codec.compress(crops[:2])).shape == (2, 128, 128, 3)
    assert codec.analyze(crops[:2]).codes.equal_tokens(codec.encode(crops[:2])).all()


class Artifact:
    """A student in torch that looks like an artifact in its runtime."""

    runtime = "torch"

    def __init__(self, model: Path, bundle: Any) -> None:
        self.bundle, self._codec = bundle, Codec.load(model)

    def run(self, image: NDArray[np.uint8]) -> tuple[int, NDArray[np.int32]]:
        codes = self._codec.encode(image)
        return int(codes.group[0]), codes.tokens[0]


def test_with_encoder_takes_a_network_and_refuses_a_foreign_bundle(
    codec: Codec, tiny_model: Path, sums_bundle: Path, crops: NDArray[np.uint8]
) -> None:
    from edge_stscq.bundle import Bundle

    teacher = codec.with_encoder(store.load_teacher(tiny_model), "teacher")
    assert teacher.encode(crops[:2]).equal_tokens(Codec.load(tiny_model, "teacher").encode(crops[:2])).all()
    foreign = Bundle.open(sums_bundle)
    with pytest.raises(EdgeError, match="is of model"):
        codec.with_encoder(Artifact(tiny_model, foreign))


@pytest.mark.parametrize(
    "given", [np.zeros((2, 128, 128), np.uint8), np.zeros((128, 128, 3)), [1], np.zeros((1, 1, 128, 128, 3), np.uint8)]
)
def test_only_crops_are_encoded(given: Any) -> None:
    with pytest.raises(EdgeError, match="crops are uint8"):
        as_crops(given)


def test_names_are_released_models_or_folders(model_dir: Path) -> None:
    assert Codec.load(MODEL).config == Codec.load(model_dir).config
    with pytest.raises(EdgeError, match="neither a folder nor released"):
        Codec.load("face65")
    with pytest.raises(EdgeError, match=r"nowhere/model/config\.json does not exist"):
        Codec.load("nowhere/model")


def test_payload_bytes_are_those_of_the_stream(codec: Codec, crops: NDArray[np.uint8]) -> None:
    codes = codec.encode(crops[:3])
    data = codec.frames.encode_stream(codes)
    assert codec.payload_bytes(codes).sum() == len(data) - 13 - 3 * 6
