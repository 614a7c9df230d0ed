"""Streams of version 2: sections of frames, as bytes (docs/spec/wire.md).

A section says once what its frames share, and a frame what differs from the one before. Nothing is allocated by what a
length claims: every field has a bound, and a stream is read section by section, frame by frame.
"""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from edge_stscq.errors import EdgeError, FrameError
from edge_stscq.protocol import MAX_SEQUENCE
from edge_stscq.stream._varint import byte_at, decode_varint, encode_varint, unzigzag, zigzag
from edge_stscq.stream.entropy import CODER_ID_BYTES, MODEL_ID_BYTES
from edge_stscq.stream.envelope import (
    KEY_BYTES,
    MAX_QUALITY,
    MAX_TIME,
    MAX_TRACK,
    NO_QUALITY,
    Clock,
    Source,
    WireFrame,
    check_extensions,
    critical_extension,
    stream_id,
)

PREAMBLE = b"STSQ\x02"
_CRC_BYTES = 4
_SECTION = 0
_HAS_QUALITY, _HAS_TRACKS = 4, 8
_MOST_TRACKS_BACK = 5
_MAX_STEP = 1 << 21
"""A zigzag difference of time has three bytes, so it is below this."""
_FIXED = 2 + MODEL_ID_BYTES + CODER_ID_BYTES + KEY_BYTES


def bare_frame_bytes(payload_bytes: int) -> int:
    """Bytes of a frame without time, quality and extensions."""
    return 1 + len(encode_varint(payload_bytes)) + payload_bytes + _CRC_BYTES


def frame_bound(payload_bytes: int) -> int:
    """Bytes of a frame without extensions, at most: its share of a section's header apart."""
    return bare_frame_bytes(payload_bytes) + 3 + 1


@dataclass(frozen=True, slots=True)
class Section:
    """Header of a section.

    Attributes:
        key: of the stream, 16 bytes.
        first: number of the first frame.
        extensions: of the transport, not kept.
    """

    source: Source
    key: bytes
    has_quality: bool
    has_tracks: bool
    first: int
    base_ms: int
    """From which the first frame's time counts."""
    tracks: int
    """Highest track so far plus one."""
    extensions: bytes = b""

    @property
    def unknown_extension(self) -> int | None:
        """Type of the first critical extension that this program does not know; None if it may read the frames."""
        return critical_extension(self.extensions) if self.extensions else None


def write_stream(frames: Iterable[WireFrame], key: bytes) -> bytes:
    """A stream of frames, all of the stream with this key, in as few sections as they need.

    Args:
        key: 16 bytes.

    Raises:
        EdgeError: a frame is of another stream.
    """
    return PREAMBLE + write_sections(list(frames), key)


def write_sections(frames: Sequence[WireFrame], key: bytes) -> bytes:
    """Sections to append to a stream; otherwise as `write_stream`."""
    found, out = stream_id(key), bytearray()
    writer: _SectionWriter | None = None
    for index, frame in enumerate(frames):
        if frame.source.stream_id != found:
            raise EdgeError("the frame is of another stream than the key")
        part = None if writer is None else writer.frame(frame)
        if part is None:
            writer = _SectionWriter(frame, key, _same_source(frames, index))
            out += writer.header
            part = writer.frame(frame)
            assert part is not None
        out += part
    return bytes(out)


def _same_source(frames: Sequence[WireFrame], start: int) -> Sequence[WireFrame]:
    end, source = start, frames[start].source
    while end < len(frames) and frames[end].source == source:
        end += 1
    return frames[start:end]


class _SectionWriter:
    """Writes one section; `following` tells whether any of its frames will need a quality or a track."""

    def __init__(self, first: WireFrame, key: bytes, following: Sequence[WireFrame]) -> None:
        self._source, self._number, self._time = first.source, first.number, first.captured_ms or 0
        self._quality = any(frame.quality is not None for frame in following)
        self._has_tracks = any(frame.track is not None for frame in following)
        self._tracks = first.track or 0
        self.header = section_header(
            Section(self._source, key, self._quality, self._has_tracks, self._number, self._time, self._tracks)
        )

    def frame(self, frame: WireFrame) -> bytes | None:
        """Bytes of the next frame, None if it needs a section of its own."""
        if frame.source != self._source or frame.number != self._number:
            return None
        track, tracks = self._track_code(frame.track)
        if track is None or (frame.quality is not None and not self._quality):
            return None
        out = bytearray([frame.layers | track << 4 | (0x80 if frame.extensions else 0)])
        if frame.captured_ms is not None:
            step = zigzag(frame.captured_ms - self._time)
            if step >= _MAX_STEP:
                return None
            out += encode_varint(step)
            self._time = frame.captured_ms
        if self._quality:
            out.append(NO_QUALITY if frame.quality is None else frame.quality)
        out += encode_varint(len(frame.payload))
        if frame.extensions:
            out.append(len(frame.extensions))
            out += frame.extensions
        self._number, self._tracks = self._number + 1, tracks
        return bytes(out + frame.payload + frame.checksum.to_bytes(_CRC_BYTES, "little"))

    def _track_code(self, track: int | None) -> tuple[int | None, int]:
        """Code of a track, None if it has none here, and the tracks so far with it."""
        if track is None:
            return 0, self._tracks
        if not self._has_tracks:
            return None, self._tracks
        if track == self._tracks:
            return 1, track + 1
        back = self._tracks - 1 - track
        return (2 + back if 0 <= back <= _MOST_TRACKS_BACK else None), self._tracks


def section_header(section: Section) -> bytes:
    """Bytes of a section's header, from its mark to its CRC."""
    source, name = section.source, section.source.device.encode()
    flags = source.clock | _HAS_QUALITY * section.has_quality | _HAS_TRACKS * section.has_tracks
    body = bytearray([flags, source.kind])
    body += source.model_id + source.coder_id + section.key + bytes([len(name)]) + name + encode_varint(section.first)
    if source.clock != Clock.NONE:
        body += encode_varint(section.base_ms)
    if section.has_tracks:
        body += encode_varint(section.tracks)
    body += section.extensions
    marked = bytes([_SECTION]) + encode_varint(len(body)) + body
    return marked + zlib.crc32(marked).to_bytes(_CRC_BYTES, "little")


def read_frames(data: bytes) -> Iterator[tuple[Section, WireFrame]]:
    """The frames of a stream with their sections, one by one; all before a damaged one are yielded.

    Raises:
        FrameError: with the frame's number in the stream and its offset.
    """
    if check_version(data) != 2:
        raise FrameError("this is a file of version 1, where one of version 2 is read")
    offset, count = len(PREAMBLE), 0
    state: _SectionReader | None = None
    while offset < len(data):
        try:
            if data[offset] == _SECTION:
                section, offset = read_section(data, offset)
                state = _SectionReader(section)
                continue
            if state is None:
                raise FrameError("a frame stands before the first section: the stream is damaged")
            frame, offset = state.frame(data, offset)
        except EdgeError as error:
            raise FrameError(f"frame {count} at byte {offset}: {error}") from None
        yield state.section, frame
        count += 1


def check_version(data: bytes) -> int:
    """Version of a stream by its first bytes, 1 or 2.

    Raises:
        FrameError: `data` does not begin like a stream, or like one of a newer version.
    """
    magic = PREAMBLE[:4]
    if data[:4] != magic[: len(data)]:
        raise FrameError(f"not a stream: it begins with {bytes(data[:4]).hex(' ')}, not with {magic.decode()}")
    if len(data) < len(PREAMBLE):
        raise FrameError(f"truncated: {len(data)} bytes, a stream has {len(PREAMBLE)} at least")
    if data[4] not in (1, 2):
        raise FrameError(f"stream version {data[4]} is unknown, this program reads 1 and 2; update it")
    return data[4]


def read_section(data: bytes, offset: int) -> tuple[Section, int]:
    """The section header that begins at `offset`, and the offset of its first frame.

    Raises:
        FrameError: it is damaged, or of a newer device.
    """
    length, start = decode_varint(data, offset + 1, 2, "length of the section header")
    end = start + length
    if end + _CRC_BYTES > len(data):
        raise FrameError(f"truncated: {end + _CRC_BYTES - len(data)} bytes of the section header are missing")
    if zlib.crc32(data[offset:end]).to_bytes(_CRC_BYTES, "little") != data[end : end + _CRC_BYTES]:
        raise FrameError("checksum of the section header differs: it is damaged; send it again")
    body = bytes(data[start:end])
    flags, kind = byte_at(body, 0, "flags"), byte_at(body, 1, "kind")
    if flags & 3 == 3 or flags > 15:
        raise FrameError(f"flags {flags:#04x} of the section are unknown; update this program")
    count = byte_at(body, _FIXED, "device")
    at = _FIXED + 1 + count
    name = body[_FIXED + 1 : at]
    if len(name) != count:
        raise FrameError("truncated: no device")
    first, at = decode_varint(body, at, 8, "number")
    base_ms = tracks = 0
    clock = Clock(flags & 3)
    if clock != Clock.NONE:
        base_ms, at = decode_varint(body, at, 7, "time")
    if flags & _HAS_TRACKS:
        tracks, at = decode_varint(body, at, 5, "track")
    if first > MAX_SEQUENCE or base_ms > MAX_TIME or tracks > MAX_TRACK + 1:
        raise FrameError("number, time or track of the section is beyond its range")
    check_extensions(body[at:])
    key = body[_FIXED - KEY_BYTES : _FIXED]
    ids = body[2 : 2 + MODEL_ID_BYTES], body[2 + MODEL_ID_BYTES : _FIXED - KEY_BYTES]
    try:
        device = name.decode("ascii")
    except UnicodeDecodeError:
        raise FrameError("the section names no device") from None
    source = Source(stream_id(key), device, *ids, kind=kind, clock=clock)
    section = Section(
        source, key, bool(flags & _HAS_QUALITY), bool(flags & _HAS_TRACKS), first, base_ms, tracks, body[at:]
    )
    return section, end + _CRC_BYTES


class _SectionReader:
    """Reads the frames of one section."""

    def __init__(self, section: Section) -> None:
        self.section = section
        self._number, self._time, self._tracks = section.first, section.base_ms, section.tracks

    def frame(self, data: bytes, offset: int) -> tuple[WireFrame, int]:
        """The frame that begins at `offset`, and the offset behind it; `EdgeError` if it is damaged."""
        section = self.section
        control = data[offset]
        offset += 1
        captured = quality = None
        if section.source.clock != Clock.NONE:
            step, offset = decode_varint(data, offset, 3, "time")
            captured = self._time + unzigzag(step)
        if section.has_quality:
            value = byte_at(data, offset, "quality")
            if value > MAX_QUALITY and value != NO_QUALITY:
                raise FrameError(f"quality {value} is not 0 to {MAX_QUALITY}: the frame is damaged")
            quality, offset = None if value == NO_QUALITY else value, offset + 1
        length, offset = decode_varint(data, offset, 2, "length")
        extensions = b""
        if control & 0x80:
            count = byte_at(data, offset, "extensions")
            extensions, offset = bytes(data[offset + 1 : offset + 1 + count]), offset + 1 + count
            if not count:
                raise FrameError("extensions are announced and there are none: the frame is damaged")
        end = offset + length + _CRC_BYTES
        if end > len(data):
            raise FrameError(f"truncated: {end - len(data)} bytes of the frame are missing")
        payload = bytes(data[offset : offset + length])
        track, tracks = self._track(control >> 4 & 7)
        checksum = int.from_bytes(data[end - _CRC_BYTES : end], "little")
        frame = WireFrame(
            section.source, self._number, control & 15, payload, captured, track, quality, extensions, checksum
        )
        self._number, self._tracks = self._number + 1, tracks
        self._time = captured if captured is not None else 0
        return frame, end

    def _track(self, code: int) -> tuple[int | None, int]:
        """Track of a code, and the tracks so far with it."""
        if code == 0:
            return None, self._tracks
        if not self.section.has_tracks:
            raise FrameError("a track in a section without tracks: the frame is damaged")
        track = self._tracks + 1 - code
        if not 0 <= track <= MAX_TRACK:
            raise FrameError("a track beyond its range: the frame is damaged")
        return track, max(self._tracks, track + 1)
