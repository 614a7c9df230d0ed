"""Frames: coded faces as bytes that are read back whole or refused, in files of wire versions 1 and 2.

Version 2 is `stream/wire.py` and what is written now; of version 1,

    stream   header frame*
    header   "STSQ" | version 1 | model id, 8 bytes                            13 bytes, once a stream
    frame    layers u8 | length LEB128 | payload | CRC-32 little-endian        6 bytes beside the payload
    payload  group and tokens, as the model's entropy model codes them

The CRC covers the model id, layers, length and payload, so a frame that was moved under the header of another model
fails like a damaged one. It is checked before anything is decoded, and every length is held against what the entropy
model can produce before anything is read. A payload must be the very one that is made for its face: one face is one
string of bytes.

Frames may be appended to a stream as they come, so the header holds no count: a stream that was cut exactly between two
frames is a shorter stream. Cut anywhere else, it is refused.
"""

import hashlib
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from edge_stscq._limits import MAX_LAYERS
from edge_stscq.errors import EdgeError, FrameError
from edge_stscq.stream._varint import byte_at, decode_varint, encode_varint
from edge_stscq.stream.entropy import MODEL_ID_BYTES, EntropyModel
from edge_stscq.stream.envelope import STATIC_TABLES, CapturedFace, Clock, Kind, Source, WireFrame, stream_id
from edge_stscq.stream.face import CodedFace
from edge_stscq.stream.learned import Learned
from edge_stscq.stream.packed import PACKED_OR_STATIC, CoderName, Packed
from edge_stscq.stream.wire import check_version, read_frames, write_stream

MAGIC = b"STSQ"
VERSION = 1
HEADER_BYTES = len(MAGIC) + 1 + MODEL_ID_BYTES
CRC_BYTES = 4
FRAME_OVERHEAD = 1 + 1 + CRC_BYTES
"""Bytes of a frame beside a payload of less than 128 bytes."""
_REMEMBERED = 8192
"""Payloads whose faces are kept, 6 MB at most: a server that has stored a face soon indexes and decodes it."""


ARCHIVE = "archive"
"""Device of faces that no camera captured."""


def coder_id_of(name: CoderName, learned: Learned | None) -> bytes:
    """Id of a coder that a bundle can be exported with.

    Raises:
        EdgeError: it is the learned one, and the model has none.
    """
    if name != "learned":
        return {"static": STATIC_TABLES, "packed": PACKED_OR_STATIC}[name]
    if learned is None:
        raise EdgeError("the model has no learned coder; fit one with benchmarks.codec.entropy_fit or choose another")
    return learned.coder_id


class UnreadableFrameError(FrameError):
    """A whole frame that this program cannot read: of another model, kind or coder, or newer."""


class Frame(NamedTuple):
    """A coded face and the bytes it is sent as by version 1."""

    data: bytes
    payload_bytes: int
    """Entropy-coded bytes among them; the others are 6 (7 from a payload of 128 bytes on)."""
    face: CodedFace
    model_id: bytes
    """8 bytes, of the model that made it."""


class FrameCodec:
    """Faces to frames and back, for one model.

    Args:
        entropy: codes payloads, e.g. `Tables`.
        model_id: 8 bytes, from `stream.model_id`.
        coder_id: 8 bytes, of the coder that frames of version 2 are written with; all of `coders` are read.
        learned: the model's learned coder, if it has one.

    Raises:
        EdgeError: a model id has another length, or the coder is unknown.
    """

    def __init__(
        self, entropy: EntropyModel, model_id: bytes, coder_id: bytes = STATIC_TABLES, learned: Learned | None = None
    ) -> None:
        if len(model_id) != MODEL_ID_BYTES:
            raise EdgeError(f"a model id has {MODEL_ID_BYTES} bytes, not {len(model_id)}")
        self.entropy = entropy
        self.model_id = model_id
        self.coders: dict[bytes, EntropyModel] = {STATIC_TABLES: entropy, PACKED_OR_STATIC: Packed(entropy)}
        if learned is not None:
            self.coders[learned.coder_id] = Packed(learned)
        if coder_id not in self.coders:
            raise EdgeError(f"coder {coder_id.hex()} is unknown here; update this program")
        self.coder_id = coder_id
        self._remembered: OrderedDict[tuple[bytes, bytes, int], CodedFace] = OrderedDict()

    @property
    def coder(self) -> EntropyModel:
        """Codes the payloads of version 2."""
        return self.coders[self.coder_id]

    def header(self) -> bytes:
        """The 13 bytes a stream begins with."""
        return stream_header(self.model_id)

    def payload(self, face: CodedFace) -> bytes:
        """The payload of a face in version 2, by the coder of `coder_id`.

        Raises:
            EdgeError: the face does not fit the model (token count, group or token out of range).
        """
        self._check_fit(face)
        return self.coder.encode(face)

    def captured(
        self, face: CodedFace, captured_ms: int | None = None, clock: Clock = Clock.NONE, *, base: bool = False,
        track: int | None = None, quality: int | None = None,
    ) -> CapturedFace:  # fmt: skip
        """A face on its way to a spool, a file or a server, entropy-coded once a frame; errors as in `payload`.

        Args:
            captured_ms: milliseconds since 1970 UTC; None exactly without a clock.
            base: first a frame of the basic layer, which may travel before the further layers of any face.
            track, quality: as in `WireFrame`.
        """
        parts = [face.truncate(1, self.entropy.layer_ends), face] if base and face.layers > 1 else [face]
        payloads = tuple((part.layers, self.payload(part)) for part in parts)
        return CapturedFace(self.model_id, payloads, captured_ms, clock, track, quality, self.coder_id)

    def face(self, frame: WireFrame) -> CodedFace:
        """The face of a frame of version 2, whose checksum holds.

        Raises:
            UnreadableFrameError: it is of another model, kind or coder, or has an extension that must be known.
            FrameError: no face of this model has its payload.
        """
        self._check_readable(frame)
        return self._face(frame.payload, frame.layers, frame.source.coder_id)

    def faces(self, frames: Sequence[WireFrame]) -> list[CodedFace | FrameError]:
        """As `face`, of several frames at once, the error in the place of a face."""
        found: dict[int, CodedFace | FrameError] = {}
        unknown: dict[tuple[bytes, int], list[int]] = {}
        for place, frame in enumerate(frames):
            try:
                self._check_readable(frame)
            except FrameError as error:
                found[place] = error
                continue
            coder_id = frame.source.coder_id
            known = self._remembered.get((coder_id, frame.payload, frame.layers))
            if known is None:
                unknown.setdefault((coder_id, frame.layers), []).append(place)
            else:
                found[place] = known
        for (coder_id, layers), places in unknown.items():
            made = self.coders[coder_id].decode_many([frames[place].payload for place in places], layers)
            for place, face in zip(places, made, strict=True):
                found[place] = face
                if isinstance(face, CodedFace):
                    self._remember(coder_id, frames[place].payload, face)
        return [found[place] for place in range(len(frames))]

    def _face(self, payload: bytes, layers: int, coder_id: bytes = STATIC_TABLES) -> CodedFace:
        face = self._remembered.get((coder_id, payload, layers))
        if face is None:
            face = self.coders[coder_id].decode(payload, layers)
            self._remember(coder_id, payload, face)
        return face

    def _remember(self, coder_id: bytes, payload: bytes, face: CodedFace) -> None:
        self._remembered[coder_id, payload, face.layers] = face
        with suppress(KeyError):  # another thread may have taken the last one
            while len(self._remembered) > _REMEMBERED:
                self._remembered.popitem(last=False)

    def _check_readable(self, frame: WireFrame) -> None:
        source = frame.source
        if source.model_id != self.model_id:
            raise UnreadableFrameError(f"it is of model {source.model_id.hex()}, this is model {self.model_id.hex()}")
        if source.kind == Kind.PROTECTED:
            raise UnreadableFrameError("it is a protected template, from which no face is drawn without its key")
        if source.kind != Kind.TOKENS:
            raise UnreadableFrameError(f"it holds no tokens but kind {source.kind}")
        if source.coder_id not in self.coders:
            raise UnreadableFrameError(f"its coder {source.coder_id.hex()} is unknown here")
        if (extension := frame.unknown_extension) is not None:
            raise UnreadableFrameError(f"its extension {extension} is unknown here; update this program")
        limits = self.coders[source.coder_id].payload_limits
        if frame.layers > len(limits) or len(frame.payload) > limits[frame.layers - 1]:
            raise FrameError(f"no face of this model has {frame.layers} layers in {len(frame.payload)} bytes")

    def read(self, data: bytes) -> Iterator[CodedFace]:
        """The faces of a file of either version, one by one; all before a damaged one are yielded.

        Raises:
            FrameError: naming the frame's number and its offset, or the model that the file is of.
        """
        if check_version(data) == 1:
            yield from self.iter_stream(data)
            return
        for number, (_, frame) in enumerate(read_frames(data)):
            try:
                yield self.face(frame)
            except FrameError as error:
                raise FrameError(f"frame {number}: {error}") from None

    def write(self, faces: Iterable[CodedFace], device: str = ARCHIVE) -> bytes:
        """A file of faces that no camera captured: without times, of a stream whose key follows from the faces.

        The same faces are the same bytes, and sending them twice stores them once.
        """
        payloads = [(face.layers, self.payload(face)) for face in faces]
        named = b"" if self.coder_id == STATIC_TABLES else self.coder_id
        digest = hashlib.sha256(b"edge-stscq archive\n" + self.model_id + named)
        for layers, payload in payloads:
            digest.update(bytes([layers]) + len(payload).to_bytes(2, "little") + payload)
        key = digest.digest()[:16]
        source = Source(stream_id(key), device, self.model_id, self.coder_id, clock=Clock.NONE)
        return write_stream([WireFrame(source, number, *part) for number, part in enumerate(payloads)], key)

    def frame(self, face: CodedFace) -> Frame:
        """The frame of a face in version 1, entropy-coded once; errors as in `payload`."""
        self._check_fit(face)
        payload = self.entropy.encode(face)
        body = bytes([face.layers]) + encode_varint(len(payload)) + payload
        return Frame(body + _crc(body, self.model_id), len(payload), face, self.model_id)

    def encode_frame(self, face: CodedFace) -> bytes:
        """The bytes of `frame`."""
        return self.frame(face).data

    @property
    def max_frame_size(self) -> int:
        """No frame of this model is longer, in bytes."""
        longest = max(self.entropy.payload_limits)
        return 1 + len(encode_varint(longest)) + longest + CRC_BYTES

    def encode_stream(self, faces: Iterable[CodedFace]) -> bytes:
        """Header and frames."""
        return self.header() + b"".join(map(self.encode_frame, faces))

    def decode_frame(self, buffer: bytes, offset: int = 0) -> tuple[CodedFace, int]:
        """The face whose frame begins at `offset`, and the offset of the next.

        Raises:
            FrameError: there is no undamaged frame of this model.
        """
        layout = self._check(buffer, offset)
        return self._decode(buffer, layout), layout.end

    def iter_stream(self, data: bytes) -> Iterator[CodedFace]:
        """The faces of a stream one by one, otherwise as `iter_frames`."""
        return (frame.face for frame in self.iter_frames(data))

    def iter_frames(self, data: bytes) -> Iterator[Frame]:
        """The frames of a stream one by one; all before a damaged one are yielded.

        Raises:
            FrameError: naming the frame's number and its offset.
        """
        found = stream_model_id(data)
        if found != self.model_id:
            raise FrameError(
                f"stream is of model {found.hex()}, this is model {self.model_id.hex()}; "
                "use the model or bundle it was encoded with"
            )
        offset, number = HEADER_BYTES, 0
        while offset < len(data):
            try:
                layout = self._check(data, offset)
                face = self._decode(data, layout)
            except FrameError as error:
                raise FrameError(f"frame {number} at byte {offset}: {error}") from error
            yield Frame(bytes(data[offset : layout.end]), layout.payload_bytes, face, self.model_id)
            offset, number = layout.end, number + 1

    def decode_stream(self, data: bytes) -> list[CodedFace]:
        """All faces of a stream, or `FrameError` as in `iter_stream`."""
        return list(self.iter_stream(data))

    def _check(self, buffer: bytes, offset: int) -> "FrameLayout":
        return check_frame(buffer, offset, self.model_id, self.entropy.payload_limits)

    def _decode(self, buffer: bytes, layout: "FrameLayout") -> CodedFace:
        return self._face(bytes(buffer[layout.start : layout.start + layout.payload_bytes]), layout.layers)

    def _check_fit(self, face: CodedFace) -> None:
        groups, _, entries = self.entropy.shape
        if face.layers > len(self.entropy.layer_ends):
            raise EdgeError(f"the face has {face.layers} layers, this model has {len(self.entropy.layer_ends)}")
        count = self.entropy.layer_ends[face.layers - 1]
        if len(face.tokens) != count:
            raise EdgeError(f"{face.layers} layers of this model are {count} tokens, the face has {len(face.tokens)}")
        if not 0 <= face.group < groups:
            raise EdgeError(f"group {face.group} is not 0 to {groups - 1}")
        if face.tokens.max() >= entries:
            raise EdgeError(f"token {face.tokens.max()} is not 0 to {entries - 1}")


class FrameLayout(NamedTuple):
    """Where a whole frame's parts are in its buffer."""

    layers: int
    start: int
    """Of the payload."""
    end: int
    """Of the frame, behind its CRC."""

    @property
    def payload_bytes(self) -> int:
        return self.end - CRC_BYTES - self.start


def check_frame(buffer: bytes, offset: int, model_id: bytes, limits: Sequence[int] | None = None) -> FrameLayout:
    """Find the frame that begins at `offset` and check it without decoding it.

    Args:
        limits: the most bytes of a payload of 1, 2, ... layers of this model, if the entropy model is at hand.

    Raises:
        FrameError: there is no undamaged frame of this model.
    """
    layers = byte_at(buffer, offset, "layer count")
    most = MAX_LAYERS if limits is None else len(limits)
    if not 1 <= layers <= most:
        raise FrameError(f"layer count {layers} is not 1 to {most}: the frame is damaged or is not one of this model")
    length, start = decode_varint(buffer, offset + 1, 4, "length")
    if limits is not None and length > limits[layers - 1]:
        limit = limits[layers - 1]
        raise FrameError(f"length {length} exceeds the {limit} bytes this model can need: the frame is damaged")
    body_end = start + length
    end = body_end + CRC_BYTES
    if end > len(buffer):
        raise FrameError(f"truncated: {end - len(buffer)} bytes of the frame are missing")
    if _crc(buffer[offset:body_end], model_id) != buffer[body_end:end]:
        raise FrameError("checksum differs: the frame is damaged or of another model; send it again")
    return FrameLayout(layers, start, end)


def _crc(body: bytes, model_id: bytes) -> bytes:
    return zlib.crc32(body, zlib.crc32(model_id)).to_bytes(CRC_BYTES, "little")


def stream_header(model_id: bytes) -> bytes:
    """The 13 bytes that a stream of this model begins with."""
    return MAGIC + bytes([VERSION]) + model_id


def stream_model_id(data: bytes) -> bytes:
    """The 8-byte model id of a stream, for a reader that holds several models.

    Raises:
        FrameError: `data` does not begin with a header of this version.
    """
    if data[: len(MAGIC)] != MAGIC[: len(data)]:
        raise FrameError(f"not a stream: it begins with {bytes(data[:4]).hex(' ')}, not with {MAGIC.decode()}")
    if len(data) < HEADER_BYTES:
        raise FrameError(f"truncated: {len(data)} bytes, the header alone has {HEADER_BYTES}")
    if data[len(MAGIC)] != VERSION:
        raise FrameError(f"stream version {data[len(MAGIC)]} is unknown, this program reads {VERSION}; update it")
    return bytes(data[len(MAGIC) + 1 : HEADER_BYTES])


def file_model_id(data: bytes) -> bytes:
    """The 8-byte model id of a file of either version, that of its first frame, for a reader that holds several models.

    Raises:
        FrameError: `data` is no file of frames, or has none.
    """
    if check_version(data) == 1:
        return stream_model_id(data)
    for _, frame in read_frames(data):
        return frame.source.model_id
    raise FrameError("the file has no frame")


def read_stream(path: Path) -> bytes:
    """Bytes of a stream file.

    Raises:
        EdgeError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise EdgeError(f"cannot read {path}: {error.strerror}; make one with `edge-stscq encode`") from None


def split_stream(data: bytes) -> tuple[bytes, list[bytes]]:
    """Header and frames of a stream, without the entropy model that would decode them; joined again they are `data`.

    A sender need not know the model: layout and CRC tell where each frame ends and whether it is whole, so a damaged
    file is noticed on the device, before anything travels.

    Raises:
        FrameError: the header is not one, or a frame is truncated or fails its CRC; names the frame and its offset.
    """
    model_id = stream_model_id(data)
    frames: list[bytes] = []
    offset = HEADER_BYTES
    while offset < len(data):
        try:
            end = check_frame(data, offset, model_id).end
        except FrameError as error:
            raise FrameError(f"frame {len(frames)} at byte {offset}: {error}") from None
        frames.append(data[offset:end])
        offset = end
    return data[:HEADER_BYTES], frames
