"""Frames and streams: round trips, sizes, and the refusal of everything damaged."""

import dataclasses
import math
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_stscq.errors import EdgeError, FrameError
from edge_stscq.stream import HEADER_BYTES, CodedFace, FrameCodec, Tables, stream_model_id

from .conftest import ENDS, MODEL


def coded_faces(groups: int = 3, entries: int = 32) -> st.SearchStrategy[CodedFace]:
    def of_layers(layers: int) -> st.SearchStrategy[CodedFace]:
        size = ENDS[layers - 1]
        tokens = st.lists(st.integers(0, entries - 1), min_size=size, max_size=size)
        return st.builds(CodedFace, st.integers(0, groups - 1), tokens.map(np.array), st.just(layers))

    return st.integers(1, 3).flatmap(of_layers)


@settings(deadline=None)
@given(st.lists(coded_faces(), max_size=5))
def test_any_faces_come_back_from_a_stream(tables: Tables, faces: list[CodedFace]) -> None:
    codec = FrameCodec(tables, MODEL)
    stream = codec.encode_stream(faces)
    assert codec.decode_stream(stream) == faces
    assert len(stream) <= HEADER_BYTES + len(faces) * codec.max_frame_size


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=60))
def test_any_bytes_behind_a_header_are_faces_or_a_frame_error(tables: Tables, noise: bytes) -> None:
    codec = FrameCodec(tables, MODEL)
    data = codec.header() + noise
    try:
        faces = codec.decode_stream(data)
    except FrameError:
        return
    assert codec.encode_stream(faces) == data


@settings(deadline=None, max_examples=300)
@given(st.integers(1, 3), st.binary(max_size=26))
def test_payloads_decode_only_in_their_one_form(tables: Tables, layers: int, payload: bytes) -> None:
    """Payloads with a right checksum decode only in their one form."""
    codec = FrameCodec(tables, MODEL)
    frame = sealed(bytes([layers, len(payload)]) + payload)
    try:
        face, end = codec.decode_frame(frame)
    except FrameError:
        return
    assert end == len(frame)
    assert codec.encode_frame(face) == frame


def sealed(body: bytes, model: bytes = MODEL) -> bytes:
    return body + zlib.crc32(model + body).to_bytes(4, "little")


def test_header_is_paid_once_and_a_frame_costs_six_bytes(codec: FrameCodec, faces: list[CodedFace]) -> None:
    assert codec.header() == b"STSQ\x01" + MODEL
    assert HEADER_BYTES == 13
    frames = [codec.encode_frame(face) for face in faces]
    assert [len(frame) for frame in frames] == [codec.frame(face).payload_bytes + 6 for face in faces]
    assert codec.encode_stream(faces) == codec.header() + b"".join(frames)


def test_frames_read_from_a_stream_are_those_that_were_made(codec: FrameCodec, faces: list[CodedFace]) -> None:
    made = [codec.frame(face) for face in faces]
    assert list(codec.iter_frames(codec.encode_stream(faces))) == made
    assert [frame.data for frame in made] == [codec.encode_frame(face) for face in faces]


def test_payload_is_within_a_byte_of_the_ideal_code_length(
    codec: FrameCodec, tables: Tables, faces: list[CodedFace]
) -> None:
    for face in faces:
        bits = -math.log2(tables.group_frequencies[face.group] / 2**16)
        rows = tables.frequencies[face.group]
        bits -= sum(math.log2(rows[t, token] / 2**16) for t, token in enumerate(face.tokens))
        assert codec.frame(face).payload_bytes < bits / 8 + 1


def test_frames_follow_one_another(codec: FrameCodec, faces: list[CodedFace]) -> None:
    data = b"junk" + codec.encode_frame(faces[0]) + codec.encode_frame(faces[1])
    first, middle = codec.decode_frame(data, 4)
    second, end = codec.decode_frame(data, middle)
    assert (first, second, end) == (faces[0], faces[1], len(data))


def test_long_payloads_have_a_longer_length(codec: FrameCodec) -> None:
    tables = Tables.from_counts(np.zeros((1, 90, 4096), int), [0], (30, 60, 90))
    long = FrameCodec(tables, MODEL)
    face = CodedFace(0, np.arange(4000, 4090, dtype=np.uint16), 3)
    frame = long.encode_frame(face)
    assert long.frame(face).payload_bytes == 135
    assert len(frame) == 135 + 7 == long.max_frame_size
    assert long.decode_frame(frame) == (face, len(frame))


def test_every_flipped_bit_of_a_frame_is_refused(codec: FrameCodec, faces: list[CodedFace]) -> None:
    for face in faces[:12]:
        frame = codec.encode_frame(face)
        for bit in range(8 * len(frame)):
            damaged = bytearray(frame)
            damaged[bit // 8] ^= 1 << bit % 8
            with pytest.raises(FrameError):
                codec.decode_frame(bytes(damaged))


def test_every_flipped_bit_of_a_stream_is_refused(codec: FrameCodec, faces: list[CodedFace]) -> None:
    stream = codec.encode_stream(faces[:4])
    for bit in range(8 * len(stream)):
        damaged = bytearray(stream)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FrameError):
            codec.decode_stream(bytes(damaged))


def test_every_truncation_is_refused_but_those_between_frames(codec: FrameCodec, faces: list[CodedFace]) -> None:
    frames = [codec.encode_frame(face) for face in faces[:4]]
    stream = codec.header() + b"".join(frames)
    ends = {HEADER_BYTES + sum(map(len, frames[:count])): count for count in range(5)}
    for size in range(len(stream)):
        if size in ends:
            assert codec.decode_stream(stream[:size]) == faces[: ends[size]]
        else:
            with pytest.raises(FrameError):
                codec.decode_stream(stream[:size])
    for size in range(len(frames[0])):
        with pytest.raises(FrameError, match="truncated"):
            codec.decode_frame(frames[0][:size])


def test_iter_frames_yields_faces_before_a_damaged_frame(codec: FrameCodec, faces: list[CodedFace]) -> None:
    """Faces before a damaged frame are yielded and the damage is placed."""
    frames = [codec.encode_frame(face) for face in faces[:3]]
    offset = HEADER_BYTES + len(frames[0])
    stream = bytearray(codec.header() + b"".join(frames))
    stream[offset + 3] ^= 0x40
    reader = codec.iter_stream(bytes(stream))
    assert next(reader) == faces[0]
    with pytest.raises(FrameError, match=rf"^frame 1 at byte {offset}: checksum differs"):
        next(reader)


def test_another_model_is_named_with_both_ids(codec: FrameCodec, tables: Tables, faces: list[CodedFace]) -> None:
    other = FrameCodec(tables, bytes.fromhex("fedcba9876543210"))
    stream = codec.encode_stream(faces[:2])
    with pytest.raises(FrameError, match=r"of model 0123456789abcdef, this is model fedcba9876543210"):
        other.decode_stream(stream)
    with pytest.raises(FrameError, match="checksum"):
        other.decode_frame(codec.encode_frame(faces[0]))
    assert stream_model_id(stream) == MODEL


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "truncated: 0 bytes"),
        (b"STS", "truncated: 3 bytes"),
        (b"PK\x03\x04" + bytes(20), "not a stream: it begins with 50 4b 03 04"),
        (b"STSQ\x02" + MODEL, "version 2 is unknown"),
    ],
)
def test_what_is_no_stream_is_refused(codec: FrameCodec, data: bytes, message: str) -> None:
    with pytest.raises(FrameError, match=message):
        codec.decode_stream(data)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"\x00\x00", "layer count 0"),
        (b"\x04\x00", "layer count 4"),
        (b"\x01\x80\x00", "shortest form"),
        (b"\x01\x81\x80\x80\x00", "shortest form"),
        (b"\x01\x80\x80\x80\x80\x01", "more than 4 bytes"),
        (b"\x01\xff\xff\xff\x7f", "length 268435455 exceeds"),
    ],
)
def test_malformed_frames_with_a_right_checksum_are_refused(codec: FrameCodec, body: bytes, message: str) -> None:
    with pytest.raises(FrameError, match=message):
        codec.decode_frame(sealed(body))


def test_a_second_spelling_of_a_face_is_refused(codec: FrameCodec, faces: list[CodedFace]) -> None:
    frame = codec.encode_frame(faces[0])
    payload = frame[2:-4] + b"\x00"  # the same binary fraction
    with pytest.raises(FrameError, match="not the one an encoder makes"):
        codec.decode_frame(sealed(bytes([faces[0].layers, len(payload)]) + payload))


def test_oversized_length_allocates_nothing(codec: FrameCodec) -> None:
    data = sealed(b"\x03\xff\xff\xff\x7f") + bytes(1 << 20)
    tracemalloc.start()
    with pytest.raises(FrameError, match="exceeds"):
        codec.decode_frame(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000


@pytest.mark.parametrize(
    ("face", "message"),
    [
        (CodedFace(3, np.zeros(4, int), 1), "group 3 is not 0 to 2"),
        (CodedFace(-1, np.zeros(4, int), 1), "group -1"),
        (CodedFace(0, np.full(4, 32), 1), "token 32 is not 0 to 31"),
        (CodedFace(0, np.zeros(5, int), 1), "1 layers of this model are 4 tokens, the face has 5"),
    ],
)
def test_faces_that_do_not_fit_the_tables_are_refused(codec: FrameCodec, face: CodedFace, message: str) -> None:
    with pytest.raises(EdgeError, match=message):
        codec.encode_frame(face)


@pytest.mark.parametrize(
    ("tokens", "layers"),
    [([0.5], 1), ([[1]], 1), ([-1], 1), ([65536], 1), ([1], 0), ([1], 16)],
)
def test_what_is_no_face_is_refused(tokens: np.ndarray, layers: int) -> None:
    with pytest.raises(EdgeError):
        CodedFace(0, np.array(tokens), layers)


def test_every_prefix_of_layers_is_a_smaller_face(codec: FrameCodec, faces: list[CodedFace]) -> None:
    face = next(face for face in faces if face.layers == 3)
    sizes = []
    for layers in (1, 2, 3):
        cut = face.truncate(layers, ENDS)
        assert cut.tokens.tolist() == face.tokens[: ENDS[layers - 1]].tolist()
        assert codec.decode_frame(codec.encode_frame(cut))[0] == cut
        sizes.append(codec.frame(cut).payload_bytes)
    assert sizes == sorted(set(sizes))
    with pytest.raises(EdgeError, match="choose 1 to 2"):
        cut.truncate(2, ENDS).truncate(3, ENDS)


def test_a_face_is_a_value() -> None:
    face, same = (CodedFace(1, np.array([1, 2, 3], dtype), 1) for dtype in (np.int64, np.uint8))
    assert face == same
    assert len({face, same}) == 1
    assert face != CodedFace(1, np.array([1, 2, 4]), 1)
    assert face != dataclasses.replace(face, layers=2)
    assert face != "face"
    with pytest.raises(ValueError, match="read-only"):
        face.tokens[0] = 9


def test_model_id_has_eight_bytes(tables: Tables) -> None:
    with pytest.raises(EdgeError, match="8 bytes, not 7"):
        FrameCodec(tables, bytes(7))
