"""Boxes of ISO base media files (ISO/IEC 14496-12), of which MP4, MOV, HEIC and AVIF are made."""

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

MOST = 10_000
"""Boxes that are looked at in a file; real ones have a few dozen at the levels that are read here."""


class Box(NamedTuple):
    """A box: its kind, and where its contents lie in the file."""

    kind: bytes
    start: int
    end: int


def boxes(file: BinaryIO, start: int, end: int) -> Iterator[Box]:
    """Yield the boxes between two positions of a file; ends without a word where one is damaged."""
    for _ in range(MOST):
        if start + 8 > end:
            return
        file.seek(start)
        head = file.read(16)
        if len(head) < 8:
            return
        size, kind = struct.unpack_from(">I4s", head)
        skip = 8
        if size == 1 and len(head) == 16:
            size, skip = struct.unpack_from(">Q", head, 8)[0], 16
        elif size == 0:
            size = end - start
        if size < skip or start + size > end:
            return
        yield Box(kind, start + skip, start + size)
        start += size


def find(file: BinaryIO, start: int, end: int, *path: bytes) -> Iterator[Box]:
    """Yield the boxes at a path of kinds, e.g. `moov`, `trak`, `tkhd`; `meta` has four bytes before its contents."""
    for box in boxes(file, start, end):
        if box.kind == path[0]:
            if len(path) == 1:
                yield box
            else:
                yield from find(file, box.start + 4 * (box.kind == b"meta"), box.end, *path[1:])


def contents(file: BinaryIO, box: Box, most: int = 4096) -> bytes:
    """The first bytes of a box."""
    file.seek(box.start)
    return file.read(min(box.end - box.start, most))
