"""Entropy models below a frame codec: another coder, packing, and the name of a model."""

import zlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_stscq.errors import EdgeError, FrameError
from edge_stscq.stream import CodedFace, FrameCodec, Tables, model_id
from edge_stscq.stream.envelope import STATIC_TABLES, Source, WireFrame
from edge_stscq.stream.frame import coder_id_of
from edge_stscq.stream.packed import PACKED_OR_STATIC, Packed
from edge_stscq.stream.wire import read_frames

from .conftest import ENDS, MODEL, draw_faces


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

    def encode_many(self, faces: Sequence[CodedFace]) -> list[bytes]:
        return [self.encode(face) for face in faces]

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


SMALL = Tables.from_counts([[[90, 5, 0], [1, 60, 0]], [[1, 1, 1], [0, 0, 900]]], [3, 1], (1, 2))


@pytest.fixture(scope="module")
def faces(tables: Tables) -> list[CodedFace]:
    """Faces as the tables expect them, and faces drawn evenly, which they make long."""
    draw = np.random.default_rng(3)
    even = [
        CodedFace(int(draw.integers(3)), draw.integers(32, size=ENDS[place % 3], dtype=np.uint16), 1 + place % 3)
        for place in range(60)
    ]
    return draw_faces(tables, 60) + even


@pytest.fixture
def packing(tables: Tables) -> FrameCodec:
    return FrameCodec(tables, MODEL, PACKED_OR_STATIC)


def test_payload_is_never_longer_than_with_tables_and_reads_back(tables: Tables, faces: list[CodedFace]) -> None:
    packed, shorter = Packed(tables), 0
    for face in faces:
        payload, coded = packed.encode(face), tables.encode(face)
        assert len(payload) == min(len(coded), packed.payload_limits[face.layers - 1])
        assert packed.decode(payload, face.layers) == face
        shorter += len(payload) < len(coded)
    assert 30 < shorter < 90


def test_limits_are_the_number_of_faces() -> None:
    assert Packed(Tables.from_counts(np.ones((2, 64, 256), int), [1, 1], (16, 32, 64))).payload_limits == (17, 33, 65)
    assert Packed(SMALL).payload_limits == (1, 1)


@pytest.mark.parametrize("layers", [1, 2])
def test_every_string_of_bytes_is_the_payload_of_its_face_or_is_refused(layers: int) -> None:
    packed, read = Packed(SMALL), set[CodedFace]()
    for size in range(3):
        for one in product(range(256), repeat=size):
            try:
                face = packed.decode(bytes(one), layers)
            except FrameError:
                continue
            assert packed.encode(face) == bytes(one)
            assert face not in read
            read.add(face)
    assert len(read) == 2 * 3**layers


@pytest.mark.parametrize("count", [1, 99])
def test_many_are_read_as_one_by_one(tables: Tables, faces: list[CodedFace], count: int) -> None:
    packed, whole = Packed(tables), [face for face in faces if face.layers == 2]
    payloads = [packed.encode(whole[place % len(whole)]) for place in range(count)]
    payloads += [b"\xff" * packed.payload_limits[1], b"\0" * 40]
    *found, beyond, long = packed.decode_many(payloads, 2)
    assert found == [whole[place % len(whole)] for place in range(count)]
    assert isinstance(beyond, FrameError)
    assert isinstance(long, FrameError)


def test_frames_name_the_coder_and_any_codec_of_the_model_reads_them(
    packing: FrameCodec, codec: FrameCodec, faces: list[CodedFace]
) -> None:
    for writer in (packing, codec):
        data = writer.write(faces)
        assert list(packing.read(data)) == list(codec.read(data)) == faces
    assert len(packing.write(faces)) < len(codec.write(faces))
    assert packing.captured(faces[0]).coder_id == PACKED_OR_STATIC
    assert packing.encode_stream(faces) == codec.encode_stream(faces)  # version 1 has the tables only


def test_cut_after_any_layer_is_a_frame_of_its_own(packing: FrameCodec, faces: list[CodedFace]) -> None:
    for face in (face for face in faces if face.layers == 3):
        cut = [face.truncate(layers, ENDS) for layers in (1, 2, 3)]
        assert list(packing.read(packing.write(cut))) == cut


def test_same_bytes_of_two_coders_are_not_mixed_up(packing: FrameCodec, tables: Tables) -> None:
    source = Source(bytes(16), "door", MODEL)
    draw = np.random.default_rng(5)
    for _ in range(50):
        face = CodedFace(0, draw.integers(32, size=4, dtype=np.uint16), 1)
        payload = Packed(tables).encode(face)
        coders = (PACKED_OR_STATIC, STATIC_TABLES)
        frames = [WireFrame(replace(source, coder_id=coder_id), 0, 1, payload) for coder_id in coders]
        first, second = packing.faces(frames)
        assert first == face == packing.face(frames[0])
        assert second == face or payload != tables.encode(face)


def test_archives_of_two_coders_are_two_streams(packing: FrameCodec, codec: FrameCodec, faces: list[CodedFace]) -> None:
    streams = {next(iter(read_frames(one.write(faces[:1]))))[1].source.stream_id for one in (packing, codec)}
    assert len(streams) == 2


def test_unknown_coder_is_refused(tables: Tables) -> None:
    with pytest.raises(EdgeError, match="coder 6c6561726e656421 is unknown here"):
        FrameCodec(tables, MODEL, b"learned!")
    assert {coder_id_of("static", None), coder_id_of("packed", None)} == set(FrameCodec(tables, MODEL).coders)
    with pytest.raises(EdgeError, match="the model has no learned coder"):
        coder_id_of("learned", None)
