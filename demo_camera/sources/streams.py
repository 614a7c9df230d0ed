"""Pictures from standard input or a named pipe: one picture, or JPEG pictures one after the other."""

import os
import select
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from demo_camera.sources.jpegs import CHUNK, jpeg_pictures, photograph
from demo_camera.sources.picture import Picture
from demo_camera.sources.reading import TICK, Reading
from demo_camera.sources.stored.containers import is_video
from edge_stscq._images import picture_format
from edge_stscq._images.reading import MOST_BYTES
from edge_stscq.errors import EdgeError

_JPEG = b"\xff\xd8\xff"
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
        number = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK) if self.path else os.dup(sys.stdin.fileno())
        try:
            regular = stat.S_ISREG(os.fstat(number).st_mode)
            chunks = self._chunks(number, sys.platform != "win32" and not regular, reading)
            head = b""
            for chunk in chunks:
                head += chunk
                if len(head) >= _HEAD or head.startswith(_JPEG):
                    break
            if head.startswith(_JPEG) or (picture_format(head) is None and _JPEG in head):
                yield from jpeg_pictures(chain([head], chunks), self.name, reading, live=not regular)
            elif not reading.closed:
                yield from self._single(head, chunks, reading)
        finally:
            os.close(number)

    def _single(self, head: bytes, chunks: Iterator[bytes], reading: Reading) -> Iterator[Picture]:
        if is_video(head):
            raise EdgeError(f"{self.name} gives a video; give its path, or JPEG pictures one after the other")
        data = bytearray(head)
        for chunk in chunks:
            data += chunk
            if len(data) > MOST_BYTES:
                raise EdgeError(f"{self.name} gives more than a picture; JPEG pictures one after the other are read")
        if not reading.closed:
            yield photograph(bytes(data), self.name)

    def _chunks(self, number: int, waits: bool, reading: Reading) -> Iterator[bytes]:
        """Yield bytes as they come, until there are no more or the source is closed."""
        last = time.monotonic()
        while not reading.closed:
            if waits and not select.select([number], [], [], TICK)[0]:
                if time.monotonic() - last > (timeout := reading.options.timeout):
                    raise EdgeError(f"{self.name} gave nothing for {timeout:g} s; start what feeds it")
                continue
            try:
                data = os.read(number, CHUNK)
            except BlockingIOError:
                continue
            if not data:
                return
            yield data
            last = time.monotonic()
