"""Leases: the faces of a spool that one request carries, and how their frames lie in the file."""

import secrets
import struct
from bisect import bisect_right
from dataclasses import dataclass
from typing import Any, Literal

from edge_stscq.errors import EdgeError, FrameError
from edge_stscq.stream.envelope import Clock, Source, WireFrame, stream_id
from edge_stscq.stream.frame import HEADER_BYTES, check_frame
from edge_stscq.stream.wire import write_stream

Part = Literal["base", "enhancement", "all"]
"""Frames of a lease: basic layers, the frames with all layers behind them, or one frame a face."""


@dataclass(frozen=True)
class Lease:
    """Frames of the faces `first`, `first + 1`, ..., all of one source.

    Attributes:
        token: tells this lease from others.
        part: `base` if the faces may have another frame waiting.
        model_id: 8 bytes.
        frames: of version 2; empty if the faces were put by an earlier program, whose server may have a part of them.
        frames_1: of version 1, then.
    """

    token: int
    part: Part
    first: int
    model_id: bytes
    frames: tuple[WireFrame, ...]
    frames_1: tuple[bytes, ...] = ()

    @property
    def last(self) -> int:
        return self.first + len(self.frames or self.frames_1) - 1


class LeaseRun:
    """Faces with consecutive numbers of one source, as they are read from a spool.

    Args:
        key: of the spool's stream.
        device: that the spool is of.
    """

    def __init__(self, key: bytes, device: str) -> None:
        self._key, self._stream, self._device = key, stream_id(key), device
        self._first = 0
        self._shared: tuple[Any, ...] = ()
        self._frames: list[WireFrame] = []
        self._frames_1: list[bytes] = []

    @property
    def count(self) -> int:
        return len(self._frames) + len(self._frames_1)

    def add(self, row: tuple[Any, ...]) -> bool:
        """Take the next face, unless it belongs into another request; `FrameError` if it is damaged."""
        number, version, model, coder, kind, clock, captured, track, quality, extensions, _, data = row
        shared = (version, model, coder, kind, clock)
        try:
            if version == 1:
                if check_frame(data, 0, model).end != len(data):
                    raise FrameError("bytes follow the frame")
            else:
                source = Source(self._stream, self._device, model, coder, kind, Clock(clock))
                frame = _unpack(data, source, number, captured, track, quality, extensions)
        except (EdgeError, ValueError, TypeError, OverflowError, struct.error) as error:
            raise FrameError(str(error)) from None
        if self.count and (number != self._first + self.count or shared != self._shared):
            return False
        if not self.count:
            self._first, self._shared = number, shared
        if version == 1:
            self._frames_1.append(data)
        else:
            self._frames.append(frame)
        return True

    def lease(self, part: Part, max_bytes: float) -> Lease:
        """A lease of the faces, or of as many as a request of `max_bytes` can carry."""
        count = self.count
        if self._bytes(count) > max_bytes:
            count = max(1, bisect_right(range(1, count), max_bytes, key=self._bytes))
        frames, frames_1 = tuple(self._frames[:count]), tuple(self._frames_1[:count])
        return Lease(secrets.randbits(62), part, self._first, self._shared[1], frames, frames_1)

    def _bytes(self, count: int) -> int:
        """Bytes of the body that carries the first `count` faces: sections are where times and tracks need them."""
        if self._frames:
            return len(write_stream(self._frames[:count], self._key))
        return HEADER_BYTES + sum(map(len, self._frames_1[:count]))


def pack_frame(frame: WireFrame) -> bytes:
    """Layers, checksum and payload of a frame, as they lie in the file."""
    return bytes([frame.layers]) + frame.checksum.to_bytes(4, "little") + frame.payload


def _unpack(
    data: bytes, source: Source, number: int, captured: float | None, track: int | None, quality: int | None,
    extensions: bytes,
) -> WireFrame:  # fmt: skip
    if len(data) < 5:
        raise FrameError("the frame is cut off")
    at = None if captured is None else round(captured * 1000)
    checksum = int.from_bytes(data[1:5], "little")
    return WireFrame(source, number, data[0], data[5:], at, track, quality, extensions, checksum)
