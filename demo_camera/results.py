"""Results of the capture loop: faces to send, news of visits, counters."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from demo_camera.tracks import Box
from edge_stscq.device.detect import Face
from edge_stscq.stream import CapturedFace, Clock

Kind = Literal["new", "update", "end"]


@dataclass(frozen=True, eq=False)
class Capture:
    """One captured face on its way out.

    Attributes:
        picture: name of the picture that it is from, which may be earlier than the latest.
        crop: uint8 `[128, 128, 3]`, RGB.
        score: quality, 0 to 100.
        track: number of the visit; None of a photograph.
    """

    picture: str
    face: Face
    crop: NDArray[np.uint8]
    coded: CapturedFace
    score: int
    track: int | None = None


@dataclass(frozen=True, eq=False)
class TrackEvent:
    """News of one visit.

    Attributes:
        kind: `new` with the first face that passes the gate, `update` when a face is sent and the visit goes on, `end`.
        track: number of the visit, as in its frames.
        score: quality of the best face so far, 0 to 100.
        box: x, y, width, height in pixels of the latest picture with this face.
        picture: name of the picture that brought the news; the latest one for an end.
        captured_ms, clock: of that picture.
        sent: faces of this visit that were sent.
        embedding: running average of its embeddings, unit float32 `[128]`, to be matched; None without a matcher.
    """

    kind: Kind
    track: int
    score: int
    box: Box
    picture: str
    captured_ms: int | None
    clock: Clock
    sent: int
    embedding: NDArray[np.float32] | None


@dataclass(frozen=True)
class Step:
    """Result of one picture, or of the end: faces to send, and news in order."""

    captures: list[Capture] = field(default_factory=list)
    events: list[TrackEvent] = field(default_factory=list)


@dataclass
class Counters:
    """Counters of one run. `wire_bytes` are the frames, at most; what a section's header takes comes on top, once."""

    pictures: int = 0
    searched: int = 0
    """Pictures in which faces were looked for; `every` leaves out some."""
    found: int = 0
    """Faces found in them."""
    tracks: int = 0
    """Visits with a face that passed."""
    faces: int = 0
    """Faces captured."""
    rejected: Counter[str] = field(default_factory=Counter)
    """Rejections by reason; "no face", of a picture, is one of them."""
    payload_bytes: int = 0
    wire_bytes: int = 0

    def by_name(self) -> dict[str, int | dict[str, int]]:
        """All counters by name; the rejections are called `refused`."""
        numbers = {name: value for name, value in vars(self).items() if name != "rejected"}
        return numbers | {"refused": dict(self.rejected)}
