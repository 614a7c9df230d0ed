"""Sinks of captured frames: a stream file, a server, or both.

The file appears whole when the capture ends. The server gets its frames while the capture runs, at least once a second
when there are any. If it cannot be reached, the frames so far are saved to the file, and the error says how to send
them.
"""

import time
from collections.abc import Callable
from pathlib import Path

from edge_stscq._files import write_file
from edge_stscq.client.sender import Sender
from edge_stscq.errors import EdgeError

BATCH = 64
"""Most frames that wait for the server."""
PERIOD = 1.0
"""Longest wait of a frame for the server, in seconds, while new ones come."""


class FrameSink:
    """Takes the frames of one capture.

    Args:
        header: begins the file and every request, 13 bytes.
        output: the stream file to write, if any.
        sender: the server to send to, if any.
        first: sequence number of the first frame at the server.
        clock: seconds of a clock that never goes back.
    """

    def __init__(
        self, header: bytes, output: Path | None = None, sender: Sender | None = None, first: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._header, self._output, self._sender, self._next = header, output, sender, first
        self._kept: list[bytes] = []
        self._waiting: list[bytes] = []
        self._clock, self._sent_at = clock, clock()
        self.acknowledged = 0
        """Frames that the server has confirmed."""

    def put(self, frame: bytes) -> None:
        """Take one frame.

        Raises:
            EdgeError: the server refused frames or stayed out of reach.
        """
        if self._output is not None:
            self._kept.append(frame)
        if self._sender is not None:
            self._waiting.append(frame)
            if len(self._waiting) >= BATCH or self._clock() - self._sent_at >= PERIOD:
                self._send(self._sender)

    def close(self) -> None:
        """Write the file and send the rest.

        Raises:
            EdgeError: the file cannot be written, or as `put`.
        """
        if self._sender is not None and self._waiting:
            self._send(self._sender)
        self._save()

    def _send(self, sender: Sender) -> None:
        try:
            self.acknowledged += sender.send_stream(self._header + b"".join(self._waiting), self._next).frames
        except EdgeError as error:
            if self._output is None:
                raise EdgeError(f"{error}; give -o FILE to keep what cannot be sent") from None
            self._save()
            raise EdgeError(f"{error}; all frames are in {self._output}, send them with `edge-stscq send`") from None
        self._next += len(self._waiting)
        self._waiting.clear()
        self._sent_at = self._clock()

    def _save(self) -> None:
        if self._output is not None:
            write_file(self._output, self._header + b"".join(self._kept))
