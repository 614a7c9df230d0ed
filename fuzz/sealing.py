"""Files of version 2 under checksums that are right: what a hostile sender makes, and no change at random does."""

import zlib

from edge_stscq.errors import EdgeError
from edge_stscq.stream._varint import decode_varint, unzigzag
from edge_stscq.stream.envelope import Clock, WireFrame
from edge_stscq.stream.wire import PREAMBLE, Section, read_section

_CRC_BYTES = 4


def sealed(data: bytes) -> bytes:
    """The file with the four bytes of each CRC replaced, as far as its sections and frames can be followed.

    What follows something that has no right checksum stays as it is.
    """
    out, at = bytearray(data), len(PREAMBLE)
    section: Section | None = None
    place = _Place()
    try:
        while at < len(out):
            if out[at] == 0:
                length, start = decode_varint(out, at + 1, 2, "length")
                out[start + length : start + length + _CRC_BYTES] = _crc(zlib.crc32(out[at : start + length]))
                section, at = read_section(bytes(out), at)
                place = _Place(section.first, section.base_ms, section.tracks)
            elif section is None:
                break
            else:
                frame, at = place.frame(section, bytes(out), at)
                out[at - _CRC_BYTES : at] = _crc(frame.checksum)
    except (EdgeError, IndexError):
        return bytes(out)
    return bytes(out)


class _Place:
    """Number, time and tracks behind the frames of a section that were followed."""

    def __init__(self, number: int = 0, time: int = 0, tracks: int = 0) -> None:
        self._number, self._time, self._tracks = number, time, tracks

    def frame(self, section: Section, data: bytes, at: int) -> tuple[WireFrame, int]:
        """The frame at `at` whatever its checksum is, and the offset behind it; `EdgeError` if there can be none."""
        control, at = data[at], at + 1
        captured = quality = None
        if section.source.clock != Clock.NONE:
            step, at = decode_varint(data, at, 3, "time")
            captured = self._time = self._time + unzigzag(step)
        if section.has_quality:
            quality, at = None if data[at] == 255 else data[at], at + 1
        length, at = decode_varint(data, at, 2, "length")
        extensions = b""
        if control & 0x80:
            extensions = data[at + 1 : at + 1 + data[at]]
            at += 1 + len(extensions)
        code = control >> 4 & 7
        track = self._tracks + 1 - code if code else None
        number, self._number = self._number, self._number + 1
        self._tracks = max(self._tracks, track + 1) if track is not None else self._tracks
        end = at + length + _CRC_BYTES
        if end > len(data):
            raise IndexError("the frame is cut off")
        payload = data[at : at + length]
        return WireFrame(section.source, number, control & 15, payload, captured, track, quality, extensions), end


def _crc(value: int) -> bytes:
    return value.to_bytes(_CRC_BYTES, "little")
