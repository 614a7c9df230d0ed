"""A stream is cut where its frames end, and only if all of them are whole."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_stscq.errors import EdgeError, FrameError
from edge_stscq.stream import HEADER_BYTES, CodedFace, FrameCodec
from edge_stscq.stream.frame import read_stream, split_stream
from tests.support.streams import long_codec, long_faces


@pytest.fixture(scope="module")
def codec() -> FrameCodec:
    return long_codec()


@pytest.fixture(scope="module")
def faces() -> list[CodedFace]:
    return long_faces()


@pytest.fixture(scope="module")
def stream(codec: FrameCodec, faces: list[CodedFace]) -> bytes:
    return codec.encode_stream(faces)


def test_the_parts_are_the_encoder_s_frames(codec: FrameCodec, faces: list[CodedFace], stream: bytes) -> None:
    header, frames = split_stream(stream)
    assert header == codec.header()
    assert frames == [codec.encode_frame(face) for face in faces]
    assert max(map(len, frames)) > 133
    assert split_stream(codec.header()) == (codec.header(), [])


def test_a_cut_is_noticed_everywhere_but_between_frames(stream: bytes) -> None:
    _, frames = split_stream(stream)
    ends = {HEADER_BYTES + sum(map(len, frames[:count])) for count in range(len(frames))}
    for size in set(range(len(stream))) - ends:
        with pytest.raises(FrameError):
            split_stream(stream[:size])
    for number, end in enumerate(sorted(ends)):
        assert len(split_stream(stream[:end])[1]) == number


def test_a_flipped_bit_is_noticed_and_its_frame_named(stream: bytes) -> None:
    last = len(stream) - len(split_stream(stream)[1][-1])
    for bit in range(8 * len(stream)):
        flipped = bytearray(stream)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FrameError, match=f"frame 4 at byte {last}" if bit // 8 >= last else None):
            split_stream(bytes(flipped))


@given(st.binary(max_size=60))
def test_random_bytes_raise_nothing_but_frame_errors(tail: bytes) -> None:
    with pytest.raises(FrameError):
        split_stream(b"STSQ\x01modelid8" + tail + b"\x00")


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="No such file"):
        read_stream(tmp_path / "none.stsq")
