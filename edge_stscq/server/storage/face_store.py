"""Face store: what the server asks of whatever keeps accepted frames.

A face is named by its device and sequence number: a retry is recognized and answered as a duplicate, a frame that
carries more layers of the same face replaces the shorter one, and a different face under a number already taken is
refused instead of being dropped in silence.

Every new or extended face gets the next *revision*. Whoever asks for what came after the last one seen misses nothing,
whichever servers write.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from edge_stscq.errors import EdgeError

WriteResult = Literal["stored", "extended", "duplicate"]


class ConflictError(EdgeError):
    """Another face is stored under this device and sequence number."""


@dataclass(frozen=True, slots=True)
class ValidatedFrame:
    """A checked frame: its bytes as they arrived and the number of layers in it."""

    frame: bytes
    layers: int


@dataclass(frozen=True, slots=True)
class StoredFace:
    """One row.

    Attributes:
        row: orders faces by arrival.
        received: seconds since 1970 UTC.
        revision: orders faces by their last change; above that of every earlier change of any face.
    """

    row: int
    device: str
    sequence: int
    model: bytes
    layers: int
    frame: bytes
    received: float
    revision: int

    @property
    def id(self) -> str:
        return f"{self.device}-{self.sequence}"


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
    """Frames of one request: `frames` as faces `device-first`, `device-(first + 1)`, ...

    Attributes:
        same_face: True if two frames of this model agree in the layers both have.
    """

    device: str
    first: int
    model: bytes
    frames: Sequence[ValidatedFrame]
    same_face: Callable[[bytes, bytes], bool]

    @property
    def last(self) -> int:
        return self.first + len(self.frames) - 1


class FaceStore(Protocol):
    """Accepted frames; safe to call from many threads. `SqlFaceStore` keeps them in a database.

    Every method but `close` raises `StoreError` while the store cannot be used.
    """

    @property
    def name(self) -> str:
        """The store as messages may show it."""

    def accept_all(self, deliveries: Sequence[FrameBatch]) -> list[list[WriteResult] | Exception]:
        """Store all, each whole or not at all, as if it came alone and in this order; what has returned is kept.

        Returns:
            For each delivery what became of its frames, in order, or why none was stored: `ConflictError`, or what
            `same_face` raised.
        """

    def find(self, face_id: str) -> StoredFace | None:
        """The face named `<device>-<sequence>`, or None."""

    def page(
        self, after: int, limit: int, device: str | None = None, since: float | None = None, until: float | None = None
    ) -> list[StoredFace]:
        """At most `limit` faces that arrived after row `after`, oldest first.

        Args:
            device: of this device only.
            since, until: received at or after, and before, these seconds since 1970 UTC.
        """

    def changes(self, after: int, limit: int, device: str | None = None) -> list[StoredFace]:
        """At most `limit` faces, of one device if it is given, that are new or extended since revision `after`.

        They come in the order of their revisions, each as it is now. Asking again with the last one's revision goes on
        without a gap.
        """

    def latest_revision(self) -> int:
        """The highest revision given; 0 in an empty store."""

    def devices(self, since: float) -> list[DeviceStats]:
        """Statistics of every device, by name.

        Args:
            since: recent is what came then or later, seconds since 1970 UTC.
        """

    def check_writable(self) -> None:
        """Raise `StoreError` if a frame could not be stored now."""

    def close(self) -> None:
        """Let go of what the store holds."""
