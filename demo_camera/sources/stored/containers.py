"""Containers of video: their first bytes, the time that they were made, and how the camera was held.

Time and orientation are read here because OpenCV gives no time and knows no mirrored film.
"""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from edge_stscq._images.boxes import contents, find

HEAD = 256
"""Bytes of a file that say which container it is."""
_MAGIC = (
    b"\x1aE\xdf\xa3",  # Matroska, WebM
    b"FLV\x01",
    b"OggS",
    b"0&\xb2u\x8ef\xcf\x11",  # ASF, WMV
    b"\0\0\1\xba",  # MPEG program stream
    b"\0\0\1\xb3",  # MPEG-1 and -2
    b"\0\0\0\1",  # H.264 and H.265 without a container
    b"YUV4MPEG2",
)
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
_EPOCH_1904 = 2_082_844_800
_EPOCH_2001_MS = 978_307_200_000
_SEGMENT, _INFO, _DATE = 0x18538067, 0x1549A966, 0x4461


@dataclass(frozen=True)
class Orientation:
    """One of the eight ways that a picture lies: first transposed, then mirrored left to right, then top to bottom."""

    transposed: bool = False
    mirrored: bool = False
    flipped: bool = False

    def upright(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The picture turned, `uint8 [H, W, 3]`."""
        turned = np.swapaxes(image, 0, 1) if self.transposed else image
        turned = turned[:, ::-1] if self.mirrored else turned
        return turned[::-1] if self.flipped else turned

    @classmethod
    def clockwise(cls, degrees: int) -> "Orientation":
        """A turn by 0, 90, 180 or 270 degrees."""
        return {90: cls(True, True), 180: cls(False, True, True), 270: cls(True, False, True)}.get(degrees % 360, cls())


def is_video(head: bytes) -> bool:
    """True if a file that begins with `head` (`HEAD` bytes are enough) is a container of video, or may be.

    Playlists and scripts, which FFmpeg would follow to other files and addresses, are none.
    """
    if head.startswith(_MAGIC) or head[4:8] in _BOXES or (head[:4] == b"RIFF" and head[8:12] == b"AVI "):
        return True
    return any(head[at : at + 1] == head[at + step : at + step + 1] == b"G" for at, step in ((0, 188), (4, 192)))


def made_ms(file: BinaryIO) -> int | None:
    """Milliseconds since 1970 UTC that an MP4, MOV or Matroska says it was made at; None if it does not say."""
    size = file.seek(0, io.SEEK_END)
    try:
        milliseconds = _matroska_ms(file, size) if _head(file, 4) == b"\x1aE\xdf\xa3" else _movie_ms(file, size)
    except (struct.error, IndexError):
        return None
    return milliseconds if milliseconds is not None and milliseconds > 0 else None


def held(file: BinaryIO) -> Orientation | None:
    """Orientation that the display matrix of an MP4's or MOV's first picture track gives; None without one."""
    size = file.seek(0, io.SEEK_END)
    for box in find(file, 0, size, b"moov", b"trak", b"tkhd"):
        body = contents(file, box)
        start = 52 if body[:1] == b"\1" else 40
        if len(body) < start + 44 or body[start + 36 : start + 44] == bytes(8):
            continue  # no picture: sound has no width
        a, b, _, c, d = struct.unpack_from(">5i", body, start)
        if abs(b) > abs(a):
            return Orientation(True, c < 0, b < 0)
        return Orientation(False, a < 0, d < 0)
    return None


def _head(file: BinaryIO, count: int) -> bytes:
    file.seek(0)
    return file.read(count)


def _movie_ms(file: BinaryIO, size: int) -> int | None:
    for box in find(file, 0, size, b"moov", b"mvhd"):
        body = contents(file, box)
        (seconds,) = struct.unpack_from(">Q" if body[:1] == b"\1" else ">I", body, 4)
        # some writers count from 1970
        return int(seconds - _EPOCH_1904 if seconds >= _EPOCH_1904 else seconds) * 1000
    return None


def _matroska_ms(file: BinaryIO, size: int) -> int | None:
    for _, start, end in (e for e in _elements(file, 0, size) if e[0] == _SEGMENT):
        for _, first, last in (e for e in _elements(file, start, end) if e[0] == _INFO):
            for _, at, _ in (e for e in _elements(file, first, last) if e[0] == _DATE):
                file.seek(at)
                return _EPOCH_2001_MS + int(struct.unpack(">q", file.read(8))[0]) // 1_000_000
    return None


def _elements(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield id, start and end of the EBML elements (RFC 8794) between two positions, at most a thousand."""
    for _ in range(1000):
        if start >= end:
            return
        file.seek(start)
        head = file.read(12)
        size_at = 9 - head[0].bit_length() if head and head[0] else 13
        if size_at >= len(head) or not head[size_at]:
            return
        width = 9 - head[size_at].bit_length()
        size = int.from_bytes(head[size_at : size_at + width], "big") & ((1 << 7 * width) - 1)
        start += size_at + width
        last = end if size == (1 << 7 * width) - 1 else min(start + size, end)
        yield int.from_bytes(head[:size_at], "big"), start, last
        start = last
