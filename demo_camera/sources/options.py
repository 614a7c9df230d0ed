"""Options of a source: turned, cut, slowed down, watched, and for how long it may be silent."""

import math
import re
from dataclasses import dataclass, field

from edge_stscq.errors import EdgeError

_NUMBER = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)(%?)")


@dataclass(frozen=True)
class Region:
    """Rectangle of the upright picture: left, top, width and height, each in pixels or as a share (1 is all)."""

    left: float
    top: float
    width: float
    height: float
    shares: tuple[bool, bool, bool, bool] = (False, False, False, False)
    """Which of the four are shares of the picture's width and height."""

    def __post_init__(self) -> None:
        for number, share in zip(self._numbers, self.shares, strict=True):
            if not (math.isfinite(number) and 0 <= number <= (1 if share else math.inf)):
                raise EdgeError(f"region {self} leaves the picture; give x,y,w,h of 0 or more, shares up to 100%")
        if not (self.width and self.height):
            raise EdgeError(f"region {self} is empty; give a width and a height above 0")

    @property
    def _numbers(self) -> tuple[float, float, float, float]:
        return (self.left, self.top, self.width, self.height)

    def __str__(self) -> str:
        pairs = zip(self._numbers, self.shares, strict=True)
        return ",".join(f"{number * 100:g}%" if share else f"{number:g}" for number, share in pairs)

    @classmethod
    def parse(cls, text: str) -> "Region":
        """Read `x,y,w,h`, each in pixels (`320`) or as a share of the picture (`25%`).

        Raises:
            EdgeError: the text is none, or the rectangle is empty.

        Example:
            >>> Region.parse("25%,0,50%,100%")
        """
        found = [_NUMBER.fullmatch(part.strip()) for part in text.split(",")]
        if len(found) != 4 or None in found:
            raise EdgeError(f"{text!r} is no region; give x,y,w,h in pixels or percent, e.g. 25%,0,50%,100%")
        parts = [(float(match[1]), bool(match[2])) for match in found if match is not None]
        left, top, width, height = (number / 100 if share else number for number, share in parts)
        shares = tuple(share for _, share in parts)
        return cls(left, top, width, height, (shares[0], shares[1], shares[2], shares[3]))

    def box(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of the part that lies in a picture, in whole pixels.

        Raises:
            EdgeError: no part of it does.
        """
        sides = (width, height, width, height)
        pixels = [n * side if share else n for n, share, side in zip(self._numbers, self.shares, sides, strict=True)]
        left, top = round(pixels[0]), round(pixels[1])
        right, bottom = min(round(pixels[0] + pixels[2]), width), min(round(pixels[1] + pixels[3]), height)
        if left >= right or top >= bottom:
            raise EdgeError(f"region {self} lies outside of a picture of {width} x {height}; give a part of it")
        return left, top, right, bottom


@dataclass(frozen=True)
class Backoff:
    """Waits before a lost camera is tried again: twice as long each time, of which a random half is taken off."""

    first: float = 0.5
    """Seconds before the first try."""
    most: float = 30.0
    """Seconds that no wait exceeds."""
    tries: int | None = None
    """Tries in a row that fail before it is given up; None: never."""

    def __post_init__(self) -> None:
        if not 0 < self.first <= self.most < math.inf:
            raise EdgeError(f"waits of {self.first:g} to {self.most:g} s are none; give 0 < first <= most")
        if self.tries is not None and self.tries < 1:
            raise EdgeError(f"{self.tries} tries are none; give 1 or more, or switch reconnecting off")

    def wait(self, failed: int, share: float) -> float:
        """Seconds before the next try after `failed` in a row; `share` is drawn from 0 to 1."""
        longest = min(self.most, self.first * 2.0 ** min(failed, 60))
        return longest * (0.5 + share / 2)


@dataclass(frozen=True)
class SourceOptions:
    """Options of a source; those that do not concern its kind change nothing.

    Raises:
        EdgeError: a value is out of its range.

    Example:
        >>> options = SourceOptions(rotate=90, region=Region.parse("25%,0,50%,100%"), max_rate=5)
    """

    rotate: int = 0
    """Degrees clockwise, 0, 90, 180 or 270, by which pictures are turned: for a camera that hangs sideways."""
    region: Region | None = None
    """Part of the picture that is looked at, after it was turned."""
    max_rate: float | None = None
    """Pictures a second of a camera, a stream or a film's own time; files are all read."""
    follow: bool = False
    """Watch a folder: go on with files that appear or change."""
    recursive: bool = False
    """Read the folders in a folder, too."""
    timeout: float = 10.0
    """Seconds within which a camera or stream must open, and give its next picture."""
    reconnect: bool = True
    """Connect again to a network camera that was lost; a camera in this machine ends with an error."""
    backoff: Backoff = field(default_factory=Backoff)

    def __post_init__(self) -> None:
        if self.rotate not in (0, 90, 180, 270):
            raise EdgeError(f"{self.rotate} degrees is no quarter turn; give 0, 90, 180 or 270")
        if self.max_rate is not None and not 0 < self.max_rate < math.inf:
            raise EdgeError(f"{self.max_rate:g} pictures a second is no rate; give a number above 0")
        if not 0 < self.timeout <= 3600:
            raise EdgeError(f"{self.timeout:g} s is no time-out; give more than 0, up to 3600")
