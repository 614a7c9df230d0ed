"""Pictures of a source, and what is counted on the way to them."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_stscq.stream import Clock


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture of a source."""

    name: str
    """Which it is, in a message: the file, or the camera and a number."""
    image: NDArray[np.uint8]
    """`uint8 [H, W, 3]`, RGB, upright."""
    captured_ms: int | None = None
    """Milliseconds since 1970 UTC at which it was taken: the frame's own time for a live camera, EXIF's or the
    container's for a file; None where a file does not say. It is never the time of processing."""
    clock: Clock | None = None
    """State of the clock that says `captured_ms`; a file's is unsynchronized. None where there is no time."""
    at: float | None = None
    """Seconds on the source's own steady clock: of a film its position, of a camera a clock that nobody sets back;
    None for pictures that do not follow each other in time."""


@dataclass
class SourceCounters:
    """Counters of one source."""

    pictures: int = 0
    """Pictures that came."""
    damaged: int = 0
    """Files, or pictures of a stream or film, that could not be decoded."""
    skipped: int = 0
    """Files of a folder that are neither pictures nor videos, or of a kind that is not read here."""
    dropped: int = 0
    """Pictures of a camera or film that were above the highest rate, or out of date when the next was asked for."""
    reconnects: int = 0
    """Times that a network camera was lost and came back."""

    def by_name(self) -> dict[str, int]:
        """All counters by name."""
        return asdict(self)


class Source(Protocol):
    """Source of pictures. Iterate over `pictures()` once; `close()` ends that from anywhere."""

    @property
    def name(self) -> str:
        """The source in words that are safe to print: a password in an address is left out."""

    @property
    def live(self) -> bool:
        """True if pictures come as they are taken and there is no end of them."""

    @property
    def counters(self) -> SourceCounters:
        """The counters so far."""

    def pictures(self) -> Iterator[Picture]:
        """Yield the pictures in order (files by name).

        Raises:
            EdgeError: a single file is damaged; a camera cannot be opened, or stops and is not to be connected again.
                What was yielded before is good.
        """

    def close(self) -> None:
        """End `pictures()` within a fraction of a second; from another thread or a signal handler, too."""
