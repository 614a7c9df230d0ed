"""Frames for tests of the store and the server, and rows as a store keeps them."""

import time
from collections.abc import Callable, Sequence

from edge_stscq.protocol import RefusedFrame
from edge_stscq.server.storage.face_store import FaceStore, FrameBatch, StoredFace, WriteResult, occurrence
from edge_stscq.stream import CodedFace, FrameCodec
from edge_stscq.stream.envelope import Clock, Source, WireFrame, device_stream_id, stream_id
from edge_stscq.stream.wire import write_stream

MODEL = b"12345678"
NOON = 1_700_000_000_000
"""Of some day past: milliseconds since 1970 UTC."""


def same_prefix(old: WireFrame, new: WireFrame) -> bool:
    """Faces of texts: more layers are a longer one."""
    return old.payload.startswith(new.payload) or new.payload.startswith(old.payload)


def device_frames(device: str, first: int, *texts: bytes, model: bytes = MODEL) -> list[WireFrame]:
    """Frames as version 1 brings them, whose payloads are texts of as many layers as letters."""
    source = Source(device_stream_id(device), device, model)
    return [WireFrame(source, number, len(text), text) for number, text in enumerate(texts, first)]


def accept(
    store: FaceStore, frames: Sequence[WireFrame], same: Callable[[WireFrame, WireFrame], bool] = same_prefix,
    whole: bool = False,
) -> list[WriteResult | RefusedFrame]:  # fmt: skip
    """Store frames of one request; what became of each. Raises what the store answers instead."""
    (answer,) = store.accept_all([FrameBatch(frames, same, whole)])
    if isinstance(answer, Exception):
        raise answer
    return answer


def row_of(frame: WireFrame, row: int = 1, revision: int | None = None, received: float | None = None) -> StoredFace:
    """The row of a frame, as if it had just been received."""
    source, received = frame.source, time.time() if received is None else received
    return StoredFace(
        row, source.device, source.stream_id, frame.number, source.model_id, source.coder_id, int(source.kind),
        int(source.clock), frame.captured_ms, frame.track, frame.quality, frame.extensions, frame.layers,
        frame.payload, frame.checksum, received, occurrence(frame, received), row if revision is None else revision,
    )  # fmt: skip


class Camera:
    """Writes files of version 2, all of one stream.

    Attributes:
        stream: id of the stream, in hexadecimal.
    """

    def __init__(self, codec: FrameCodec, device: str = "door-1", key: bytes = bytes(16), **source: object) -> None:
        self.codec, self.key = codec, key
        self.source = Source(
            stream_id(self.key), device,
            **{"model_id": codec.model_id, "coder_id": codec.coder_id, "clock": Clock.SYNCHRONIZED, **source},
        )  # fmt: skip
        self.stream = self.source.stream_id.hex()

    def frame(self, face: CodedFace, number: int, captured_ms: int = NOON, **more: object) -> WireFrame:
        timed = {} if self.source.clock == Clock.NONE else {"captured_ms": captured_ms}
        return WireFrame(self.source, number, face.layers, self.codec.payload(face), **timed, **more)

    def file(self, *frames: WireFrame) -> bytes:
        return write_stream(frames, self.key)

    def faces(self, faces: Sequence[CodedFace], first: int = 0, **more: object) -> bytes:
        """A file of faces, a second after each other."""
        return self.file(
            *(self.frame(face, number, NOON + 1000 * number, **more) for number, face in enumerate(faces, first))
        )
