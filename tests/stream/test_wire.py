"""Streams of version 2."""

import json
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_stscq.errors import EdgeError, FrameError
from edge_stscq.stream.envelope import (
    MAX_TRACK,
    STATIC_TABLES,
    Clock,
    Kind,
    Source,
    WireFrame,
    device_stream_id,
    stream_id,
)
from edge_stscq.stream.wire import PREAMBLE, read_frames, read_section, write_sections, write_stream
from tests.support import wire_vectors

KEY = bytes(range(16))
EXTENSION = bytes([3, 2, 7, 7])
OVERHEAD_OF_VERSION_1 = 6


def source(clock: Clock = Clock.SYNCHRONIZED, device: str = "door-1", kind: int = Kind.TOKENS) -> Source:
    return Source(stream_id(KEY), device, bytes(range(8)), STATIC_TABLES, kind, clock)


def frame(number: int = 0, **values: object) -> WireFrame:
    given = {"layers": 2, "payload": b"payload", "captured_ms": 1_700_000_000_000} | values
    return WireFrame(source(), number, **given)  # type: ignore[arg-type]


def frames_of(data: bytes) -> list[WireFrame]:
    return [found for _, found in read_frames(data)]


def is_refused(data: bytes) -> bool:
    try:
        frames_of(data)
    except FrameError:
        return True
    return False


@st.composite
def any_frame(draw: st.DrawFn) -> WireFrame:
    clock = draw(st.sampled_from(Clock))
    kind = draw(st.integers(0, 255))
    types = draw(st.lists(st.integers(0, 127), max_size=3, unique=True))
    extensions = b"".join(bytes([kind, 1, draw(st.integers(0, 255))]) for kind in sorted(types))
    return WireFrame(
        source(clock, draw(st.sampled_from(["door-1", "a" * 64])), kind),
        draw(st.integers(0, 5) | st.integers(0, 2**53 - 1)),
        draw(st.integers(1, 15)),
        draw(st.binary(max_size=200)),
        None if clock == Clock.NONE else draw(st.integers(0, 3_000_000) | st.integers(0, 2**48 - 1)),
        draw(st.none() | st.integers(0, 12) | st.integers(0, MAX_TRACK)),
        draw(st.none() | st.integers(0, 100)),
        extensions,
    )


@settings(max_examples=300, deadline=None)
@given(st.lists(any_frame(), max_size=8))
def test_stream_round_trip(frames: list[WireFrame]) -> None:
    data = write_stream(frames, KEY)
    assert frames_of(data) == frames
    assert all(section.key == KEY for section, _ in read_frames(data))


@settings(max_examples=200, deadline=None)
@given(any_frame(), st.integers(-(2**20), 2**20 - 1), st.integers(0, 5))
def test_frame_overhead_at_most_four(first: WireFrame, later: int, back: int) -> None:
    time = None if first.captured_ms is None else min(max(first.captured_ms + later, 0), 2**48 - 1)
    track = None if first.track is None else max(first.track - back, 0)
    second = WireFrame(first.source, min(first.number, 2**53 - 2) + 1, 3, b"x" * 100, time, track, first.quality)
    first = WireFrame(first.source, second.number - 1, 1, b"y", first.captured_ms, first.track, first.quality)
    cost = len(write_stream([first, second], KEY)) - len(write_stream([first], KEY)) - 100
    assert cost <= OVERHEAD_OF_VERSION_1 + 4


def test_section_begins_where_a_value_needs_it() -> None:
    gap = [frame(0), frame(1, captured_ms=1_700_000_000_000 + 2**20)]
    left_out = [frame(0), frame(2)]
    old_track = [frame(0, track=9), frame(1, track=3)]
    together = [frame(0, track=9), frame(1, track=10), frame(2, track=5)]
    counts = [len({id(section) for section, _ in list(read_frames(write_stream(part, KEY)))})
              for part in (gap, left_out, old_track, together)]  # fmt: skip
    assert counts == [2, 2, 2, 1]


def test_sections_appended() -> None:
    data = write_stream([frame(0)], KEY) + write_sections([frame(1), frame(2)], KEY)
    assert [found.number for found in frames_of(data)] == [0, 1, 2]


def test_every_bit_flip_is_found() -> None:
    frames = [
        frame(0, track=4, quality=70), frame(1, track=5, captured_ms=1_700_000_000_250),
        frame(2, extensions=EXTENSION), frame(9, layers=15, payload=b"z" * 130),
    ]  # fmt: skip
    data = write_stream(frames, KEY)
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FrameError):
            frames_of(bytes(flipped))


def test_every_cut_but_behind_a_frame_or_header_is_found() -> None:
    frames = [frame(0), frame(1), frame(5)]
    data = write_stream(frames, KEY)
    header = (
        len(write_stream([frame(0)], KEY))
        - len(write_stream([frame(0), frame(1)], KEY))
        + len(write_stream([frame(0)], KEY))
    )  # a second frame costs what the first does, so this is the preamble and a header
    ends = {len(write_stream(frames[:count], KEY)) for count in range(4)}
    headers = {header, len(write_stream(frames[:2], KEY)) + header - len(PREAMBLE)}
    for cut in range(len(data) + 1):
        if cut in ends | headers:
            assert len(frames_of(data[:cut])) < 4
        else:
            with pytest.raises(FrameError):
                frames_of(data[:cut])


def test_frame_left_out_is_found() -> None:
    one, two, three = (write_stream([frame(n) for n in range(count)], KEY) for count in (1, 2, 3))
    assert three.startswith(two)
    without_second = one + three[len(two) :]
    with pytest.raises(FrameError, match="checksum"):
        frames_of(without_second)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"layers": 0}, "1 to 15 layers"), ({"layers": 16}, "1 to 15 layers"), ({"number": 2**53}, "number"),
        ({"payload": bytes(2**14)}, "payload"), ({"captured_ms": None}, "time of capture"),
        ({"captured_ms": 2**48}, "time of capture"), ({"track": 2**32 - 1}, "track"), ({"quality": 101}, "quality"),
        ({"extensions": b"\x05"}, "extension"), ({"extensions": b"\x05\x00\x05\x00"}, "rise"),
        ({"checksum": 1}, "checksum"),
    ],
)  # fmt: skip
def test_frame_refuses_values_out_of_range(values: dict[str, object], message: str) -> None:
    with pytest.raises(EdgeError, match=message):
        frame(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "truncated"), (b"STSQ", "truncated"), (b"nothing", "not a stream"), (b"STSQ\x03", "version 3 is unknown"),
        (PREAMBLE + b"\x01", "before the first section"), (PREAMBLE + b"\x00", "truncated"),
        (PREAMBLE + b"\x00\xff\xff\x01", "more than 2 bytes"), (PREAMBLE + b"\x00\x81\x00", "shortest form"),
    ],
)  # fmt: skip
def test_reader_refuses_what_is_no_stream(data: bytes, message: str) -> None:
    with pytest.raises(FrameError, match=message):
        frames_of(data)


def signed_section(body: bytes) -> bytes:
    marked = bytes([0, len(body)]) + body
    return PREAMBLE + marked + zlib.crc32(marked).to_bytes(4, "little")


BODY = bytes([0, 0]) + bytes(8) + bytes(8) + KEY + b"\x01a\x00"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"\x03" + BODY[1:], "flags"), (b"\x10" + BODY[1:], "flags"), (BODY[:20], "truncated"),
        (BODY[:34] + b"\x00\x00", "device"), (BODY[:34] + b"\x01/\x00", "device"),
        (BODY[:34] + b"\x01\xff\x00", "device"), (BODY[:36] + b"\xff" * 7 + b"\x7f", "range"),
        (BODY + b"\x01", "cut off"),
    ],
)  # fmt: skip
def test_reader_refuses_section_headers(body: bytes, message: str) -> None:
    with pytest.raises(FrameError, match=message):
        frames_of(signed_section(body) + b"\x01\x00\x00\x00\x00\x00")


def test_reader_accepts_unknown_extensions_that_are_not_critical() -> None:
    assert frames_of(signed_section(BODY + b"\x01\x01\x00")) == []
    section, _ = read_section(signed_section(BODY + b"\x81\x00"), len(PREAMBLE))
    assert section.unknown_extension == 0x81
    critical = frame(extensions=b"\x03\x00\x83\x01\x00")
    assert frames_of(write_stream([critical], KEY)) == [critical]
    assert critical.unknown_extension == 0x83
    assert frame(extensions=EXTENSION).unknown_extension is None


def test_stream_ids() -> None:
    assert stream_id(KEY) != stream_id(bytes(16))
    assert device_stream_id("door-1") != device_stream_id("door-2")
    with pytest.raises(EdgeError, match="16 bytes"):
        stream_id(b"short")
    with pytest.raises(EdgeError, match="another stream"):
        write_stream([frame()], bytes(16))


def test_vectors_of_the_specification() -> None:
    vectors = json.loads(wire_vectors.PATH.read_text())
    assert vectors == json.loads(json.dumps(wire_vectors.make()))
    for vector in vectors["streams"]:
        found = frames_of(bytes.fromhex(vector["file"]))
        assert [wire_vectors.described(one) for one in found] == vector["frames"], vector["name"]
    for vector in vectors["refused"]:
        assert is_refused(bytes.fromhex(vector["file"])), vector["rule"]
