"""Face store: what the server asks of whatever keeps accepted frames.

A face is named by its stream and number: a retry is recognized and answered as a duplicate, a frame that carries more
layers of the same face replaces the shorter one, and a different face under a number already taken is refused instead
of being dropped in silence.

Every new, extended or erased face gets the next *revision*. Whoever asks for what came after the last one seen misses
nothing, whichever servers write.
"""

import logging
import re
import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple, Protocol, TypeVar

from edge_stscq.errors import EdgeError, FrameError
from edge_stscq.protocol import RefusedFrame
from edge_stscq.stream.envelope import Clock, Kind, Source, WireFrame, device_stream_id
from edge_stscq.stream.frame import FRAME_OVERHEAD

WriteResult = Literal["stored", "extended", "duplicate"]

STREAM_NAME = re.compile("[0-9a-f]{32}")
"""A stream id as names of faces have it."""

log = logging.getLogger(__name__)

_version_1_stream = lru_cache(1024)(device_stream_id)


@lru_cache(1024)
def _source(stream: bytes, device: str, model: bytes, coder: bytes, kind: int, clock: int) -> Source:
    """Source of a row: rows of one stream have one, and checking it takes longer than the rest of a row."""
    return Source(stream, device, model, coder, kind, Clock(clock))


KEYLESS, UNREADABLE, UNSEALED = -2, -3, -4
"""Checksums of a face of a sealed store that cannot be read."""
_REASONS = {
    KEYLESS: "its key is gone: it was erased, or the key file is older than the store",
    UNREADABLE: "it is not as it was sealed",
    UNSEALED: "it is not sealed, in a store that is",
}


class DamagedFaceError(FrameError):
    """A row that is not as it was written."""


class KeylessFaceError(DamagedFaceError):
    """A sealed face whose key is gone."""


class StoredFace(NamedTuple):
    """One row.

    Attributes:
        row: orders faces by arrival; 0 of one whose row was not read since it was written.
        stream: id, 16 bytes; with `sequence`, the number in it, the face's name.
        captured_ms: milliseconds since 1970 UTC, None without a clock.
        payload: as it was sent, with `checksum` over all that the envelope says.
        received: seconds since 1970 UTC.
        occurred: when it was captured, or received if that is not known or earlier; seconds since 1970 UTC.
        revision: orders faces by their last change; above that of every earlier change of any face.
    """

    row: int
    device: str
    stream: bytes
    sequence: int
    model: bytes
    coder: bytes
    kind: int
    clock: int
    captured_ms: int | None
    track: int | None
    quality: int | None
    extensions: bytes
    layers: int
    payload: bytes
    checksum: int
    received: float
    occurred: float
    revision: int

    @property
    def id(self) -> str:
        """Name of the face, see `face_name`."""
        return face_name(self.device, self.stream, self.sequence)

    @property
    def size(self) -> int:
        """Bytes of the frame without its envelope."""
        return len(self.payload) + FRAME_OVERHEAD

    @property
    def protected(self) -> bool:
        """True of a template, which is kept for a matcher that holds its key: nothing here reads it."""
        return self.kind == Kind.PROTECTED

    def frame(self) -> WireFrame:
        """The frame as it was sent.

        Raises:
            DamagedFaceError: the row was damaged in the store.
            KeylessFaceError: its key is gone.
        """
        if self.checksum in _REASONS:
            kind = KeylessFaceError if self.checksum == KEYLESS else DamagedFaceError
            raise kind(f"face {self.id} cannot be read: {_REASONS[self.checksum]}")
        try:
            source = _source(self.stream, self.device, self.model, self.coder, self.kind, self.clock)
            frame = WireFrame(
                source, self.sequence, self.layers, self.payload, self.captured_ms, self.track, self.quality,
                self.extensions, self.checksum,
            )  # fmt: skip
        except (EdgeError, ValueError, TypeError, OverflowError, struct.error) as error:
            raise DamagedFaceError(f"face {self.id} is damaged in the store: {error}") from None
        if self.checksum < 0 or self.received < 0 or self.occurred != occurrence(frame, self.received):
            raise DamagedFaceError(f"face {self.id} is damaged in the store: its checksum or times cannot be")
        return frame


class FreshFace(StoredFace):
    """Face as it was just written: its frame is known, and need not be held against its checksum again."""

    _frame: WireFrame

    @classmethod
    def of(cls, row: int, received: float, frame: WireFrame, revision: int) -> "FreshFace":
        """The row of a frame."""
        source = frame.source
        face = cls(
            row, source.device, source.stream_id, frame.number, source.model_id, source.coder_id, int(source.kind),
            int(source.clock), frame.captured_ms, frame.track, frame.quality, frame.extensions, frame.layers,
            frame.payload, frame.checksum, received, occurrence(frame, received), revision,
        )  # fmt: skip
        face._frame = frame
        return face

    def frame(self) -> WireFrame:
        """The frame that was sent."""
        return self._frame


@dataclass(frozen=True, slots=True)
class ErasedFace:
    """Face that was erased: its name, and the revision of that change."""

    device: str
    stream: bytes
    sequence: int
    revision: int

    @property
    def id(self) -> str:
        """As `StoredFace.id` was."""
        return face_name(self.device, self.stream, self.sequence)


Change = StoredFace | ErasedFace
"""Face that came or grew, as it is now, or went."""


def face_name(device: str, stream: bytes, number: int) -> str:
    """Stream id and number; device and number of faces that came by version 1.

    A device that is called like a stream id does not name its faces, so no two faces have one name.
    """
    has_device = stream == _version_1_stream(device) and not STREAM_NAME.fullmatch(device)
    return f"{device if has_device else stream.hex()}-{number}"


def occurrence(frame: WireFrame, received: float) -> float:
    """When a face occurred: at its capture, but not after it was received; seconds since 1970 UTC."""
    return received if frame.captured_ms is None else min(received, frame.captured_ms / 1000)


ChangeType = TypeVar("ChangeType", StoredFace, Change)


def undamaged(faces: Iterable[ChangeType]) -> Iterator[ChangeType]:
    """All but the faces that are not as they were sent; the log names these."""
    for face in faces:
        try:
            if isinstance(face, StoredFace):
                face.frame()
        except DamagedFaceError as error:
            log.error("%s; it is left out until it is sent again", error)
        else:
            yield face


@dataclass(frozen=True, slots=True)
class DeviceStats:
    """Statistics of one device: all its faces, and those that came in the period asked for."""

    device: str
    faces: int
    bytes: int
    last_received: float
    recent_faces: int
    recent_bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class FrameBatch:
    """Checked frames of one request.

    Attributes:
        same_face: True if two frames of one name agree in the layers both have; asked if they are not equal.
        whole: nothing is stored if any is refused.
    """

    frames: list[WireFrame]
    same_face: Callable[[WireFrame, WireFrame], bool]
    whole: bool = False


def is_same_capture(old: WireFrame, new: WireFrame) -> bool:
    """True if two frames of one name were captured at once, by the same device and model."""
    return old.source == new.source and old.captured_ms == new.captured_ms


class FaceName(NamedTuple):
    """Stream id, 16 bytes, and number in it."""

    stream: bytes
    number: int


class Position(NamedTuple):
    """Place in the order of time: `StoredFace.occurred` and `row`."""

    occurred: float
    row: int


OnStored = Callable[[int, Sequence[StoredFace]], object]


class FaceStore(Protocol):
    """Accepted frames; safe to call from many threads. `SqlFaceStore` keeps them in a database.

    Every method but `close` raises `StoreError` while the store cannot be used.

    Attributes:
        on_stored: called by `accept_all` after its commit, in its thread, with the revision before it and the faces
            that came or grew, in the order of their revisions, which follow that one without a gap.
    """

    on_stored: OnStored

    @property
    def name(self) -> str:
        """The store as messages may show it."""

    def accept_all(self, batches: Sequence[FrameBatch]) -> list[list[WriteResult | RefusedFrame] | Exception]:
        """Store all, as if each batch came alone and in this order; what has returned is kept.

        Returns:
            For each batch what became of its frames, in order, or what `same_face` raised.
        """

    def find(self, face_id: str) -> StoredFace | None:
        """The face with this `StoredFace.id`, or None."""

    def find_all(self, face_ids: Sequence[str]) -> list[StoredFace]:
        """The faces that have these ids, in their order, without those that are not there."""

    def page(
        self, after: int, limit: int, device: str | None = None, since: float | None = None, until: float | None = None
    ) -> list[StoredFace]:
        """At most `limit` faces that arrived after row `after`, oldest first.

        Args:
            device: of this device only.
            since, until: received at or after, and before, these seconds since 1970 UTC.
        """

    def newest(
        self, limit: int, before: Position | None = None, device: str | None = None, since: float | None = None,
        until: float | None = None,
    ) -> list[StoredFace]:  # fmt: skip
        """At most `limit` faces by the time they occurred, newest first.

        Args:
            before: only faces behind this one in that order.
            device: of this device only.
            since, until: occurred at or after, and before, these seconds since 1970 UTC.
        """

    def changes(self, after: int, limit: int, device: str | None = None) -> list[Change]:
        """At most `limit` faces, of one device if it is given, that are new, extended or erased since revision `after`.

        They come in the order of their revisions, each as it is now. Asking again with the last one's revision goes on
        without a gap.
        """

    def erase(self, names: Sequence[FaceName], *, lasting: bool = True) -> int:
        """Remove faces by their names, in one transaction; returns how many there were.

        What is removed is overwritten as the database can; `scrub` sees to what is left of it elsewhere.

        Args:
            lasting: refuse what comes of these faces later; otherwise they were only too old, and may come again.
        """

    def scrub(self) -> None:
        """Leave nothing of removed faces in free room and logs, as far as the database lets itself be told."""

    def expired(self, before: float, limit: int, device: str | None, others: Collection[str] = ()) -> list[StoredFace]:
        """At most `limit` faces that are older, in seconds since 1970 UTC, by the clock that can be believed.

        That is when a face was captured, if its device's clock was synchronized, and when it was received otherwise.

        Args:
            device: of this device only; None is all but `others`.
        """

    def latest_revision(self) -> int:
        """The highest revision given; 0 in an empty store."""

    def devices(self, since: float) -> list[DeviceStats]:
        """Statistics of every device, by name.

        Args:
            since: recent is what came then or later, seconds since 1970 UTC.
        """

    def check_writable(self) -> None:
        """Write, and raise `StoreError` if a frame could not be stored now."""

    def close(self) -> None:
        """Let go of what the store holds."""
