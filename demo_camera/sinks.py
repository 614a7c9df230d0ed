"""Sinks of captured faces: a file, a server, or both.

A capture is a stream of its own, with a key made for it, so that no other capture, also of the same device, meets its
numbers. The file grows under a temporary name and appears whole when the capture ends; who is killed before leaves the
temporary one, which lacks what came in the last seconds. The server gets its frames while the capture runs, within a
second. If it cannot be reached, the frames so far are kept in the file, and the error says how to send them; what it
has already is recognized then.
"""

import time
from collections.abc import Callable
from pathlib import Path

from demo_camera.results import Capture
from edge_stscq._files import NewFile
from edge_stscq.client.sender import Sender
from edge_stscq.errors import EdgeError
from edge_stscq.protocol import RefusedFrame
from edge_stscq.stream.envelope import WireFrame, new_stream_key, stream_id
from edge_stscq.stream.wire import PREAMBLE, write_sections

BATCH = 64
"""Most frames that wait for the server, or for the disk."""
PERIOD = 1.0
"""Longest wait of a frame for the server, in seconds."""
DISK_PERIOD = 10.0
"""Longest wait of a frame for the disk, in seconds: each write begins a section, which has a header of its own."""


class FrameSink:
    """Takes the faces of one capture.

    Args:
        device: name of this device.
        output: the file to write, if any; it is begun at once.
        sender: the server to send to, if any.
        clock: seconds of a clock that never goes back.
        prompt: write and send each face at once: pictures come rarely, and meanwhile nobody calls `poll`.

    Raises:
        EdgeError: the file cannot be written.
    """

    def __init__(
        self, device: str, output: Path | None = None, sender: Sender | None = None,
        clock: Callable[[], float] = time.monotonic, *, prompt: bool = False,
    ) -> None:  # fmt: skip
        self._batch = 1 if prompt else BATCH
        self._device, self._output, self._sender = device, output, sender
        self._key, self._next = new_stream_key(), 0
        self._file = None if output is None else NewFile(output, private=True)
        self._kept: list[WireFrame] = []
        self._waiting: list[WireFrame] = []
        self._clock, self._sent_at, self._kept_at = clock, clock(), clock()
        self._full = False
        self.written = 0
        """Frames in the file."""
        self.acknowledged = 0
        """Frames that the server has confirmed."""
        self.refused: list[RefusedFrame] = []
        """Frames that it will not take."""

    def put(self, capture: Capture) -> None:
        """Take one face, with all its layers.

        Raises:
            EdgeError: the server stayed out of reach, or refused this device, or the disk is full; once.
        """
        (frame,) = capture.coded.whole().frames(stream_id(self._key), self._device, self._next)
        self._next += 1
        if self._file is not None:
            self._kept.append(frame)
        if self._sender is not None:
            self._waiting.append(frame)
        self.poll()

    def poll(self) -> None:
        """Write and send what has waited long enough; call it while no face comes. Errors as `put`."""
        now = self._clock()
        if not self._full and (len(self._kept) >= self._batch or now - self._kept_at >= DISK_PERIOD):
            self._full = True  # unless this ends well
            self._write()
            self._full = False
        if len(self._waiting) >= self._batch or now - self._sent_at >= PERIOD:
            self._send()

    def close(self) -> None:
        """Publish the file, unless it holds no face, and send the rest.

        Raises:
            EdgeError: the file cannot be written, the server refused frames, or as `put`.
        """
        try:
            self._write()
        except EdgeError as error:
            kept = f"{self.written} faces are in it, " if self.written else ""
            raise EdgeError(f"{error}; {kept}{len(self._kept)} are lost") from None
        finally:
            self._publish()
        self._send()
        if self.refused:
            first = self.refused[0]
            where = "" if self._output is None else f"; all frames are in {self._output}"
            raise EdgeError(f"the server refused {len(self.refused)} frames: {first.code}, {first.reason}{where}")

    def _write(self) -> None:
        self._kept_at = self._clock()
        if self._file is None or not self._kept:
            return
        data = write_sections(self._kept, self._key)
        self._file.append(data if self.written else PREAMBLE + data)
        self.written += len(self._kept)
        self._kept.clear()

    def _publish(self) -> None:
        file, self._file = self._file, None
        if file is not None and self.written:
            file.publish()
        elif file is not None:
            file.discard()

    def _send(self) -> None:
        self._sent_at = self._clock()
        if self._sender is None or not self._waiting:
            return
        try:
            answer = self._sender.send_frames(self._waiting, self._key).answer
        except EdgeError as error:
            self._sender = None  # what comes now is kept in the file alone
            if self._output is None:
                raise EdgeError(f"{error}; give -o FILE to keep what cannot be sent") from None
            raise EdgeError(f"{error}; all frames are in {self._output}, send them with `edge-stscq send`") from None
        self.acknowledged += answer.count - len(answer.refused)
        self.refused += answer.refused
        self._waiting.clear()
