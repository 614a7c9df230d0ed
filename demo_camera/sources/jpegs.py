"""Pictures of a stream of JPEG: a photograph if there is one, a camera's or a film's if there are more."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import BinaryIO

from demo_camera.sources.jpeg_split import JpegSplitter
from demo_camera.sources.picture import Picture
from demo_camera.sources.reading import Reading
from edge_stscq._images import decode_photograph
from edge_stscq.device.clock import now
from edge_stscq.errors import EdgeError
from edge_stscq.stream import Clock

CHUNK = 1 << 16
_MANY_IN_ONE = b"MPF\0"
"""Mark of a photograph that carries further pictures of itself, as a preview or for HDR (CIPA DC-007)."""


def holds_several(file: BinaryIO) -> bool:
    """True if an open file is JPEG pictures one after the other, and not one photograph; leaves it at the beginning."""
    splitter, found = JpegSplitter(), list[bytes]()
    while not found and (data := file.read(CHUNK)):
        found = splitter.feed(data)
        if found:
            found += splitter.feed(file.read(CHUNK))
    file.seek(0)
    more = len(found) > 1 or (len(found) == 1 and splitter.unfinished)
    return more and _MANY_IN_ONE not in found[0][:CHUNK]


def jpeg_pictures(chunks: Iterable[bytes], name: str, reading: Reading, live: bool) -> Iterator[Picture]:
    """Yield the pictures of a stream of bytes; those of a `live` one are taken now, by this machine's clock.

    Raises:
        EdgeError: not one picture can be decoded.
    """
    splitter, alone = JpegSplitter(), None
    number = came = damaged = 0
    for chunk in chunks:
        found = splitter.feed(chunk)
        if alone is not None:
            found.insert(0, alone)
            alone = None
        if number == 0 and found:
            if _MANY_IN_ONE in found[0][:CHUNK]:
                yield photograph(found[0], name)
                return
            if len(found) == 1 and not splitter.unfinished:
                alone = found[0]
                continue
        for data in found:
            number += 1
            at = time.monotonic() if live else None
            if at is None or reading.admits(at):
                try:
                    picture = photograph(data, f"{name} picture {number - 1}")
                except EdgeError:
                    damaged += 1
                    continue
                if live:
                    moment, clock = now()
                    picture = replace(picture, captured_ms=moment, clock=clock, at=at)
                yield picture
            came += 1
        if reading.closed:
            return
    if reading.closed:
        return
    if alone is not None:
        yield photograph(alone, name)
        came += 1
    damaged += splitter.damaged + splitter.unfinished
    reading.counters.damaged += damaged
    if not came:
        raise EdgeError(f"{name} is damaged or no picture; give whole JPEG pictures")
    if damaged:
        reading.say(f"{name} is damaged: {damaged} picture{'s' * (damaged != 1)} could not be read")


def photograph(data: bytes, name: str) -> Picture:
    """The picture of a whole file's bytes.

    Raises:
        EdgeError: they are damaged or no picture.
    """
    try:
        taken = decode_photograph(data)
    except EdgeError as error:
        raise type(error)(f"{name}: {error}") from None
    if taken is None:
        raise EdgeError(f"{name} is damaged or no picture; give a JPEG, PNG or WebP file, or JPEG pictures")
    clock = None if taken.captured_ms is None else Clock.UNSYNCHRONIZED
    return Picture(name, taken.image, taken.captured_ms, clock)
