"""Entropy models below a frame codec: another coder, and the name of a model."""

import zlib
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_stscq.errors import EdgeError, FrameError
from edge_stscq.stream import CodedFace, FrameCodec, Tables, model_id

from .conftest import ENDS, MODEL


class FixedLength:
    """One byte for the group and each token, in reverse; coder 2."""

    coder = 2
    shape = (3, 12, 32)
    layer_ends = ENDS
    payload_limits = tuple(1 + end for end in ENDS)

    def __init__(self, tables: Tables) -> None:
        self.tables = tables

    def parameters(self) -> Sequence[tuple[str, NDArray[np.generic]]]:
        return self.tables.parameters()

    def encode(self, face: CodedFace) -> bytes:
        return bytes([*face.tokens[::-1].tolist(), face.group])

    def decode(self, payload: bytes, layers: int) -> CodedFace:
        if len(payload) != 1 + ENDS[layers - 1] or payload[-1] >= 3 or max(payload[:-1]) >= 32:
            raise FrameError("no face has this payload")
        return CodedFace(payload[-1], np.frombuffer(payload[-2::-1], np.uint8), layers)

    def decode_many(self, payloads: Sequence[bytes], layers: int) -> list[CodedFace | FrameError]:
        return [self.decode(payload, layers) for payload in payloads]


@pytest.fixture
def fixed(tables: Tables) -> FrameCodec:
    return FrameCodec(FixedLength(tables), MODEL)


def test_another_coder_has_the_same_frames_around_its_payloads(
    fixed: FrameCodec, codec: FrameCodec, faces: list[CodedFace]
) -> None:
    stream = fixed.encode_stream(faces)
    assert fixed.decode_stream(stream) == faces
    for face in faces:
        data, payload_bytes, _, model = fixed.frame(face)
        assert model == MODEL
        assert payload_bytes == 1 + len(face.tokens)
        assert (data[0], data[1], data[2:-4]) == (face.layers, payload_bytes, fixed.entropy.encode(face))
    assert fixed.max_frame_size == 1 + 12 + 6
    with pytest.raises(FrameError):
        codec.decode_stream(stream)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (bytes(4), "no face has this payload"),
        (bytes([32, 0, 0, 0, 0]), "no face has this payload"),
        (bytes(6), "length 6 exceeds the 5 bytes"),
    ],
)
def test_payloads_that_another_coder_refuses_are_frame_errors(fixed: FrameCodec, payload: bytes, message: str) -> None:
    body = bytes([1, len(payload)]) + payload
    with pytest.raises(FrameError, match=message):
        fixed.decode_frame(body + zlib.crc32(MODEL + body).to_bytes(4, "little"))


def test_no_coder_sees_a_face_that_does_not_fit_the_model(fixed: FrameCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FixedLength, "encode", lambda *_: pytest.fail("the coder was asked"))
    for face in (CodedFace(3, np.zeros(4, int), 1), CodedFace(0, np.full(4, 32), 1), CodedFace(0, np.zeros(5, int), 1)):
        with pytest.raises(EdgeError):
            fixed.frame(face)


def test_model_id_depends_on_books_coder_and_parameters_and_on_nothing_else(tables: Tables) -> None:
    books = np.random.default_rng(0).standard_normal((3, 12, 32, 4)).astype(np.float32)
    own = model_id(books, tables)
    assert model_id(np.asfortranarray(books).astype(">f4"), tables) == own
    other_books = books.copy()
    other_books[0, 0, 0, 0] = np.nextafter(books[0, 0, 0, 0], np.float32(9))
    moved = tables.frequencies.copy()
    moved[0, 0, :2] = moved[0, 0, 1::-1]
    ids = {
        own,
        model_id(other_books, tables),
        model_id(books.reshape(3, 12, 4, 32), tables),
        model_id(books, Tables(moved, tables.group_frequencies, tables.layer_ends)),
        model_id(books, Tables(tables.frequencies, tables.group_frequencies[::-1], tables.layer_ends)),
        model_id(books, Tables(tables.frequencies, tables.group_frequencies, (4, 9, 12))),
        model_id(books, FixedLength(tables)),
    }
    assert len(ids) == 7
