"""Best shot: of all faces of a visit, the one that is worth its bytes.

A visit is sent when it ends. One that lasts is sent before, so that whoever stands at the door is known while standing
there, and sent again only if a later face is better by a margin.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge_stscq.device.detect import Face
from edge_stscq.errors import EdgeError
from edge_stscq.stream import Clock, CodedFace

_WORTH = 2
"""Points by which a face must be better than the best so far to be coded: who walks up gets better with every step."""


@dataclass(frozen=True)
class SendRule:
    """Times and margin of sending.

    Attributes:
        best_after: seconds after which the best face of a visit that goes on is sent, and the least between two.
        margin: points of quality by which a face is better than the one sent before, to be sent as well.

    Raises:
        EdgeError: a value is out of its range.
    """

    best_after: float = 10.0
    margin: float = 15.0

    def __post_init__(self) -> None:
        if not 0 < self.best_after < float("inf"):
            raise EdgeError(f"{self.best_after:g} s is no time after which a face is sent; give more than 0")
        if not 0 < self.margin <= 100:
            raise EdgeError(f"{self.margin:g} is no margin of quality; give more than 0, up to 100")


@dataclass(frozen=True, eq=False)
class Shot:
    """One face that is fit to be sent, with its picture's name and time of capture.

    Attributes:
        crop: uint8 `[128, 128, 3]`, RGB.
        score: quality, 0 to 100.
    """

    picture: str
    face: Face
    crop: NDArray[np.uint8]
    code: CodedFace
    score: int
    captured_ms: int | None
    clock: Clock


@dataclass
class BestShot:
    """Best face of one visit that is still to be sent, and what was sent.

    Attributes:
        since: when the first face came, or the latest was sent, in seconds.
        sent: faces that were sent.
    """

    rule: SendRule
    since: float
    sent: int = 0
    _waiting: Shot | None = field(default=None, repr=False)
    _sent_score: int = 0.0

    @property
    def score(self) -> int:
        """Quality of the best face so far, 0 to 100."""
        return self._sent_score if self._waiting is None else self._waiting.score

    def wants(self, score: int) -> bool:
        """Tell if a face of this quality is worth coding: the first, or better than the best so far."""
        if self._waiting is not None:
            return score >= self._waiting.score + _WORTH
        return self.sent == 0 or score >= self._sent_score + self.rule.margin

    def offer(self, shot: Shot) -> None:
        """Keep a coded face, if it is wanted."""
        if self.wants(shot.score):
            self._waiting = shot

    def due(self, seconds: float, *, ended: bool = False) -> Shot | None:
        """The face to send now, which counts as sent; None if there is none or it may yet be bettered."""
        shot = self._waiting
        if shot is None or not (ended or seconds - self.since >= self.rule.best_after):
            return None
        self._waiting, self._sent_score, self.since, self.sent = None, shot.score, seconds, self.sent + 1
        return shot
