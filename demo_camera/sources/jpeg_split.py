"""JPEG pictures cut out of a stream of bytes: one after the other, or with headers of MJPEG over HTTP between them."""

import re

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
_START = b"\xff\xd8\xff"
_SCAN, _END = 0xDA, 0xD9
MOST_BYTES = 1 << 26
"""Longest picture; 64 MiB."""


class JpegSplitter:
    """Splits a stream by its markers (ITU-T T.81, B.1), so that a thumbnail inside a picture ends nothing.

    Example:
        >>> splitter = JpegSplitter()
        >>> pictures = splitter.feed(b"...")
    """

    def __init__(self) -> None:
        self.damaged = 0
        """Pictures that ended before their end."""
        self._buffer = bytearray()
        self._at = 0
        """Where the next marker of the picture at the beginning of the buffer is looked for; 0 outside of one."""
        self._coded = False
        """True between a start of scan and the marker that ends its coded data."""

    @property
    def unfinished(self) -> bool:
        """True in the middle of a picture."""
        return self._at > 0

    def feed(self, data: bytes) -> list[bytes]:
        """The pictures that `data` completes."""
        self._buffer += data
        found = []
        while self._step():
            if self._at < 0:
                found.append(bytes(self._buffer[: -self._at]))
                self._drop(-self._at)
        if len(self._buffer) > MOST_BYTES:
            self.damaged += 1
            self._drop(len(self._buffer))
        return found

    def _step(self) -> bool:
        """Go to the next marker; False if more bytes are needed. At the end of a picture `_at` is minus its length."""
        buffer, at = self._buffer, self._at
        if at == 0:
            start = buffer.find(_START)
            if start < 0:
                del buffer[: -len(_START) + 1]
                return False
            del buffer[:start]
            self._at = 2
            return True
        if self._coded:
            match = _MARKER.search(buffer, at)
            if match is None:
                self._at = max(at, len(buffer) - 1)
                return False
            self._at, self._coded = match.start(), False
            return True
        if len(buffer) < at + 4:
            if buffer[at : at + 2] == bytes((0xFF, _END)):
                self._at = -(at + 2)
                return True
            return False
        marker = buffer[at + 1]
        if buffer[at] != 0xFF or marker == 0xD8 or marker == 0:
            self.damaged += 1
            self._drop(at)
        elif marker == _END:
            self._at = -(at + 2)
        elif marker == 0xFF:
            self._at += 1
        elif marker == 1 or 0xD0 <= marker <= 0xD7:
            self._at += 2
        else:
            self._at += 2 + int.from_bytes(buffer[at + 2 : at + 4], "big")
            self._coded = marker == _SCAN
        return True

    def _drop(self, count: int) -> None:
        del self._buffer[:count]
        self._at, self._coded = 0, False
