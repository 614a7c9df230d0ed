"""Envelope of a coded face: which it is, when and how it was captured, and the checksum over all of it.

The checksum covers every value as it is, not as a stream abbreviates it (docs/spec/wire.md), so it is made once, at
capture, and holds in spool, request and store alike: a face cannot move under another number, stream, device, model or
layer count unseen.
"""

import hashlib
import secrets
import struct
import zlib
from dataclasses import dataclass, field, replace
from enum import IntEnum

from edge_stscq._limits import MAX_LAYERS
from edge_stscq.errors import EdgeError, FrameError
from edge_stscq.protocol import MAX_SEQUENCE, check_device
from edge_stscq.stream.entropy import CODER_ID_BYTES, MODEL_ID_BYTES

KEY_BYTES = 16
ID_BYTES = 16
STATIC_TABLES = bytes(CODER_ID_BYTES)
"""Coder id of the static tables that belong to a model id."""
MAX_PAYLOAD = 2**14 - 1
MAX_EXTENSIONS = 255
MAX_TIME = 2**48 - 1
"""Milliseconds since 1970 UTC."""
MAX_TRACK = 2**32 - 2
MAX_QUALITY = 100
NO_QUALITY = 255
_CRITICAL = 0x80
_CAPTURE = struct.Struct("<QQIBBB")


class Clock(IntEnum):
    """State of the clock at capture."""

    NONE = 0
    """No time of capture is known."""
    UNSYNCHRONIZED = 1
    SYNCHRONIZED = 2


class Kind(IntEnum):
    """Contents of a payload; numbers that are not listed are carried, not read."""

    TOKENS = 0
    PROTECTED = 1


def new_stream_key() -> bytes:
    """Key of a new stream, 16 random bytes; whoever holds it can write into the stream."""
    return secrets.token_bytes(KEY_BYTES)


def stream_id(key: bytes) -> bytes:
    """Public id of a stream, 16 bytes, which does not reveal its key.

    Raises:
        EdgeError: a key has 16 bytes.
    """
    if len(key) != KEY_BYTES:
        raise EdgeError(f"a stream key has {KEY_BYTES} bytes, not {len(key)}")
    return hashlib.sha256(b"edge-stscq stream\n" + key).digest()[:ID_BYTES]


def key_of_device(key: bytes, device: str) -> bytes:
    """Key of the stream that a stream becomes under another device's name, 16 bytes: a stream has one device."""
    return hashlib.sha256(b"edge-stscq renamed\n" + key + device.encode()).digest()[:KEY_BYTES]


def device_stream_id(device: str) -> bytes:
    """Id of the stream that a device's faces of version 1 belong to, 16 bytes; no key has it."""
    return hashlib.sha256(b"edge-stscq device\n" + device.encode()).digest()[:ID_BYTES]


@dataclass(frozen=True, slots=True)
class Source:
    """All that the frames of a section share.

    Attributes:
        stream_id: 16 bytes.
        device: 1 to 64 of `A-Z a-z 0-9 . _ -`.
        model_id: 8 bytes.
        coder_id: 8 bytes.
        kind: 0 to 255, see `Kind`.
        clock: state of the clock that the times of capture come from.

    Raises:
        EdgeError: a value is out of its range.
    """

    stream_id: bytes
    device: str
    model_id: bytes
    coder_id: bytes = STATIC_TABLES
    kind: int = Kind.TOKENS
    clock: Clock = Clock.NONE
    prefix_crc: int = field(init=False, repr=False, compare=False)
    """CRC-32 of what the checksums of all its frames begin with."""

    def __post_init__(self) -> None:
        check_device(self.device)
        sizes = (("stream id", self.stream_id, ID_BYTES), ("model id", self.model_id, MODEL_ID_BYTES),
                 ("coder id", self.coder_id, CODER_ID_BYTES))  # fmt: skip
        for name, value, size in sizes:
            if len(value) != size:
                raise EdgeError(f"a {name} has {size} bytes, not {len(value)}")
        if not 0 <= self.kind <= 255:
            raise EdgeError(f"kind {self.kind} is not 0 to 255")
        device = self.device.encode()
        object.__setattr__(self, "prefix_crc", zlib.crc32(b"".join((
            b"STSQ\x02", bytes([self.clock, self.kind]), self.model_id, self.coder_id, self.stream_id,
            bytes([len(device)]), device,
        ))))  # fmt: skip


@dataclass(frozen=True, slots=True)
class WireFrame:
    """One face as it travels: envelope and payload.

    Attributes:
        source: what it shares with its neighbors.
        number: of the face in its stream, 0 to 2**53 - 1.
        layers: 1 to 15.
        payload: at most 16,383 bytes; the bytes a coder made, or a protected template.
        captured_ms: milliseconds since 1970 UTC; None exactly if the source has no clock.
        track: shared by the faces of one visit, None if it is of none.
        quality: 0 to 100, None if nothing judged it.
        extensions: items that the format of today does not know, at most 255 bytes.
        checksum: over all of the above; made if it is not given.

    Raises:
        EdgeError: a value is out of its range.
        FrameError: the checksum given is another.

    Example:
        >>> key = new_stream_key()
        >>> source = Source(stream_id(key), "door-1", bytes(8), clock=Clock.SYNCHRONIZED)
        >>> WireFrame(source, 0, 3, b"payload", captured_ms=1_700_000_000_000, quality=80).verify()
    """

    source: Source
    number: int
    layers: int
    payload: bytes
    captured_ms: int | None = None
    track: int | None = None
    quality: int | None = None
    extensions: bytes = b""
    checksum: int = field(default=-1)

    def __post_init__(self) -> None:
        if not 0 <= self.number <= MAX_SEQUENCE:
            raise EdgeError(f"number {self.number} is not 0 to {MAX_SEQUENCE}")
        if not 1 <= self.layers <= MAX_LAYERS:
            raise EdgeError(f"a face has 1 to {MAX_LAYERS} layers, not {self.layers}")
        if len(self.payload) > MAX_PAYLOAD:
            raise EdgeError(f"a payload has at most {MAX_PAYLOAD} bytes, not {len(self.payload)}")
        if (self.captured_ms is None) != (self.source.clock == Clock.NONE):
            raise EdgeError("a face has a time of capture exactly if its source has a clock")
        if not 0 <= (self.captured_ms or 0) <= MAX_TIME:
            raise EdgeError(f"time of capture {self.captured_ms} is not 0 to {MAX_TIME} ms")
        if not 0 <= (self.track or 0) <= MAX_TRACK:
            raise EdgeError(f"track {self.track} is not 0 to {MAX_TRACK}")
        if not 0 <= (self.quality or 0) <= MAX_QUALITY:
            raise EdgeError(f"quality {self.quality} is not 0 to {MAX_QUALITY}")
        if self.extensions:
            check_extensions(self.extensions)
        made = self._checksum()
        if self.checksum == -1:
            object.__setattr__(self, "checksum", made)
        elif self.checksum != made:
            raise FrameError("checksum differs: the frame is damaged; send it again")

    def _checksum(self) -> int:
        capture = _CAPTURE.pack(
            self.number, self.captured_ms or 0, 0 if self.track is None else self.track + 1,
            NO_QUALITY if self.quality is None else self.quality, self.layers, len(self.extensions),
        )  # fmt: skip
        tail = len(self.payload).to_bytes(2, "little")
        return zlib.crc32(b"".join((capture, self.extensions, tail, self.payload)), self.source.prefix_crc)

    def verify(self) -> "WireFrame":
        """The frame itself.

        Raises:
            FrameError: it does not have its checksum.
        """
        if self.checksum != self._checksum():
            raise FrameError("checksum differs: the frame is damaged; send it again")
        return self

    @property
    def name(self) -> str:
        """Stream id in hexadecimal and number: how people and addresses name the face."""
        return f"{self.source.stream_id.hex()}-{self.number}"

    def with_payload(self, layers: int, payload: bytes) -> "WireFrame":
        """The same face with fewer or more layers."""
        return replace(self, layers=layers, payload=payload, checksum=-1)

    def of_device(self, device: str, stream: bytes) -> "WireFrame":
        """The same face in a stream of another device.

        Args:
            stream: id, 16 bytes.
        """
        return replace(self, source=replace(self.source, device=device, stream_id=stream), checksum=-1)

    @property
    def unknown_extension(self) -> int | None:
        """Type of the first critical extension that this program does not know; None if it may read the frame."""
        return critical_extension(self.extensions) if self.extensions else None


@dataclass(frozen=True, slots=True)
class CapturedFace:
    """One face before it has a stream and a number: what a camera hands to a spool, a file or a sender.

    Attributes:
        model_id: 8 bytes.
        payloads: number of layers and payload of one or more frames of the face, with rising layers.
        captured_ms: milliseconds since 1970 UTC; None exactly if `clock` is `Clock.NONE`.

    Example:
        >>> face = encoder.encode_frame(crop)
        >>> face.payload_bytes
        64
    """

    model_id: bytes
    payloads: tuple[tuple[int, bytes], ...]
    captured_ms: int | None = None
    clock: Clock = Clock.NONE
    track: int | None = None
    quality: int | None = None
    coder_id: bytes = STATIC_TABLES
    kind: int = Kind.TOKENS
    extensions: bytes = b""

    @property
    def payload_bytes(self) -> int:
        """Entropy-coded bytes of all its layers."""
        return len(self.payloads[-1][1])

    def whole(self) -> "CapturedFace":
        """The face as one frame, with all its layers."""
        return replace(self, payloads=self.payloads[-1:])

    def frames(self, stream: bytes, device: str, number: int) -> tuple[WireFrame, ...]:
        """Its frames in a stream, those with fewer layers first.

        Args:
            stream: id, 16 bytes.

        Raises:
            EdgeError: a value is out of its range, or layers do not rise.
        """
        layers = [count for count, _ in self.payloads]
        if not layers or layers != sorted(set(layers)):
            raise EdgeError(f"a face is one or more frames with rising layers, not {layers}")
        source = Source(stream, device, self.model_id, self.coder_id, self.kind, self.clock)
        return tuple(
            WireFrame(source, number, count, data, self.captured_ms, self.track, self.quality, self.extensions)
            for count, data in self.payloads
        )


def check_extensions(data: bytes) -> None:
    """Refuse what is no string of extensions.

    Raises:
        FrameError: it is over 255 bytes, an item is cut off, or types do not rise.
    """
    if len(data) > MAX_EXTENSIONS:
        raise FrameError(f"{len(data)} bytes of extensions are over {MAX_EXTENSIONS}")
    offset, before = 0, -1
    while offset < len(data):
        if offset + 2 > len(data) or offset + 2 + data[offset + 1] > len(data):
            raise FrameError("an extension is cut off: the frame is damaged")
        if data[offset] <= before:
            raise FrameError("types of extensions do not rise: the frame is damaged")
        before = data[offset]
        offset += 2 + data[offset + 1]


def critical_extension(data: bytes) -> int | None:
    """Type of the first critical extension in a checked string; none is known yet."""
    offset = 0
    while offset < len(data):
        if data[offset] & _CRITICAL:
            return data[offset]
        offset += 2 + data[offset + 1]
    return None
