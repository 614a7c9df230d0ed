"""Pictures from standard input or a named pipe: one picture, or JPEG pictures one after the other."""

import os
import select
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from demo_camera.sources.containers import is_video
from demo_camera.sources.jpeg_split import JpegSplitter
from demo_camera.sources.picture import Picture
from demo_camera.sources.reading import TICK, Reading
from edge_stscq._images import decode_photograph, picture_format
from edge_stscq._images.reading import MOST_BYTES
from edge_stscq.device.clock import now
from edge_stscq.errors import EdgeError
from edge_stscq.stream import Clock

_CHUNK = 1 << 16
_HEAD = 4096
"""Bytes within which the first of several JPEG pictures begins."""


@dataclass
class Stream:
    """Reader of a stream; `path` is a named pipe, None standard input."""

    name: str
    path: Path | None = None

    def __call__(self, reading: Reading) -> Iterator[Picture]:
        """Yield its pictures. One JPEG picture alone is a photograph with a time of its own; several are a camera's.

        Raises:
            EdgeError: what comes is no picture, is damaged, or stalls.
        """
        chunks = self._chunks(reading)
        head = b""
        for chunk in chunks:
            head += chunk
            if len(head) >= _HEAD or head.startswith(b"\xff\xd8\xff"):
                break
        if reading.closed:
            return
        if head.startswith(b"\xff\xd8\xff") or (picture_format(head) is None and b"\xff\xd8\xff" in head):
            yield from self._jpegs(head, chunks, reading)
        else:
            yield from self._single(head, chunks, reading)

    def _jpegs(self, head: bytes, chunks: Iterator[bytes], reading: Reading) -> Iterator[Picture]:
        splitter = JpegSplitter()
        waiting = splitter.feed(head)
        number, several = 0, len(waiting) > 1
        for chunk in chunks:
            several = several or bool(waiting)
            for data in waiting:
                yield from self._live(data, number, reading)
                number += 1
            waiting = splitter.feed(chunk)
            if reading.closed:
                return
        if number == 0 and len(waiting) == 1 and not several and not splitter.damaged:
            yield self._photograph(waiting[0])
            return
        for data in waiting:
            yield from self._live(data, number, reading)
            number += 1
        if reading.closed:
            return
        reading.counters.damaged += splitter.damaged + splitter.unfinished
        if reading.counters.pictures + reading.counters.dropped == 0:
            raise EdgeError(f"{self.name} is damaged; give whole JPEG pictures")
        if reading.counters.damaged:
            reading.say(f"{self.name} is damaged: {reading.counters.damaged} pictures could not be read")

    def _live(self, data: bytes, number: int, reading: Reading) -> Iterator[Picture]:
        at = time.monotonic()
        if not reading.admits(at):
            return
        taken = decode_photograph(data)
        if taken is None:
            reading.counters.damaged += 1
            return
        yield Picture(f"{self.name} picture {number}", taken.image, *now(), at)

    def _single(self, head: bytes, chunks: Iterator[bytes], reading: Reading) -> Iterator[Picture]:
        if is_video(head):
            raise EdgeError(f"{self.name} gives a video; give its path, or JPEG pictures one after the other")
        data = bytearray(head)
        for chunk in chunks:
            data += chunk
            if len(data) > MOST_BYTES:
                raise EdgeError(f"{self.name} gives more than a picture; JPEG pictures one after the other are read")
        if not reading.closed:
            yield self._photograph(bytes(data))

    def _photograph(self, data: bytes) -> Picture:
        try:
            taken = decode_photograph(data)
        except EdgeError as error:
            raise type(error)(f"{self.name}: {error}") from None
        if taken is None:
            raise EdgeError(f"{self.name} is damaged or no picture; give a JPEG, PNG or WebP file, or JPEG pictures")
        clock = None if taken.captured_ms is None else Clock.UNSYNCHRONIZED
        return Picture(self.name, taken.image, taken.captured_ms, clock)

    def _chunks(self, reading: Reading) -> Iterator[bytes]:
        """Yield bytes as they come, until there are no more or the source is closed."""
        number = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK) if self.path else os.dup(sys.stdin.fileno())
        try:
            waits = sys.platform != "win32" and not stat.S_ISREG(os.fstat(number).st_mode)
            last = time.monotonic()
            while not reading.closed:
                if waits and not select.select([number], [], [], TICK)[0]:
                    if time.monotonic() - last > (timeout := reading.options.timeout):
                        raise EdgeError(f"{self.name} gave nothing for {timeout:g} s; start what feeds it")
                    continue
                try:
                    data = os.read(number, _CHUNK)
                except BlockingIOError:
                    continue
                if not data:
                    return
                yield data
                last = time.monotonic()
        finally:
            os.close(number)
