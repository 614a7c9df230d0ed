"""Sinks of captured faces: a file, a server, or both.

A capture is a stream of its own, with a key made for it, so that no other capture, also of the same device, meets its
numbers. The file appears whole when the capture ends. The server gets its frames while the capture runs, at least once
a second when there are any. If it cannot be reached, the frames so far are saved to the file, and the error says how to
send them; what it has already is recognized then.
"""

import time
from collections.abc import Callable
from pathlib import Path

from edge_stscq._files import write_file
from edge_stscq.client.sender import Sender
from edge_stscq.errors import EdgeError
from edge_stscq.protocol import RefusedFrame
from edge_stscq.stream.envelope import CapturedFace, WireFrame, new_stream_key, stream_id
from edge_stscq.stream.wire import write_stream

BATCH = 64
"""Most frames that wait for the server."""
PERIOD = 1.0
"""Longest wait of a frame for the server, in seconds, while new ones come."""


class FrameSink:
    """Takes the faces of one capture.

    Args:
        device: name of this device.
        output: the file to write, if any.
        sender: the server to send to, if any.
        clock: seconds of a clock that never goes back.
    """

    def __init__(
        self, device: str, output: Path | None = None, sender: Sender | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._device, self._output, self._sender = device, output, sender
        self._key, self._next = new_stream_key(), 0
        self._kept: list[WireFrame] = []
        self._waiting: list[WireFrame] = []
        self._clock, self._sent_at = clock, clock()
        self.acknowledged = 0
        """Frames that the server has confirmed."""
        self.refused: list[RefusedFrame] = []
        """Frames that it will not take."""

    def put(self, face: CapturedFace) -> None:
        """Take one face, with all its layers.

        Raises:
            EdgeError: the server stayed out of reach, or refused this device.
        """
        (frame,) = face.whole().frames(stream_id(self._key), self._device, self._next)
        self._next += 1
        if self._output is not None:
            self._kept.append(frame)
        if self._sender is not None:
            self._waiting.append(frame)
            if len(self._waiting) >= BATCH or self._clock() - self._sent_at >= PERIOD:
                self._send(self._sender)

    def close(self) -> None:
        """Write the file and send the rest.

        Raises:
            EdgeError: the file cannot be written, the server refused frames, or as `put`.
        """
        if self._sender is not None and self._waiting:
            self._send(self._sender)
        self._save()
        if self.refused:
            first = self.refused[0]
            where = "" if self._output is None else f"; all frames are in {self._output}"
            raise EdgeError(f"the server refused {len(self.refused)} frames: {first.code}, {first.reason}{where}")

    def _send(self, sender: Sender) -> None:
        try:
            answer = sender.send_frames(self._waiting, self._key).answer
        except EdgeError as error:
            if self._output is None:
                raise EdgeError(f"{error}; give -o FILE to keep what cannot be sent") from None
            self._save()
            raise EdgeError(f"{error}; all frames are in {self._output}, send them with `edge-stscq send`") from None
        self.acknowledged += answer.count - len(answer.refused)
        self.refused += answer.refused
        self._waiting.clear()
        self._sent_at = self._clock()

    def _save(self) -> None:
        if self._output is not None:
            write_file(self._output, write_stream(self._kept, self._key))
