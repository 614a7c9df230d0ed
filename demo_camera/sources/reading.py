"""One reading of a source: what its readers share, and the view that is taken of every picture."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from demo_camera.sources.options import SourceOptions
from demo_camera.sources.picture import Picture, SourceCounters
from edge_stscq._reporter import SILENCE, Reporter

TICK = 0.05
"""Seconds within which whoever waits sees that the source was closed."""


@dataclass
class Reading:
    """Options, counters and the end of one source, handed to what reads it."""

    options: SourceOptions
    reporter: Reporter = SILENCE
    counters: SourceCounters = field(default_factory=SourceCounters)
    closed: bool = False
    """Set once, by a plain assignment: a signal handler may run while any lock is held."""
    _next: float = -float("inf")

    def admits(self, at: float) -> bool:
        """True if a picture at `at` s of a steady clock is wanted at the highest rate; counts it otherwise."""
        rate = self.options.max_rate
        if rate is None:
            return True
        step = 1 / rate
        if at < self._next - step / 1000:
            self.counters.dropped += 1
            return False
        # the next one is due a step after this one was due, so that the rate holds; after a pause it starts afresh
        self._next = self._next + step if 0 <= at - self._next < step else at + step
        return True

    def say(self, line: str) -> None:
        """Hand a line to whoever watches."""
        self.reporter.say(line)

    def sleep(self, seconds: float) -> None:
        """Wait, but not longer than until the source is closed."""
        end = time.monotonic() + seconds
        while not self.closed and (left := end - time.monotonic()) > 0:
            time.sleep(min(TICK, left))

    def view(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The picture turned and cut as the options say, `uint8 [H, W, 3]`."""
        turned = np.rot90(image, -(self.options.rotate // 90)) if self.options.rotate else image
        if self.options.region is not None:
            left, top, right, bottom = self.options.region.box(turned.shape[1], turned.shape[0])
            turned = turned[top:bottom, left:right]
        return np.ascontiguousarray(turned)


Reader = Callable[[Reading], Iterator[Picture]]
"""Yields pictures, upright by what the file or stream says, until the end or until `Reading.closed`."""


@dataclass
class ReadSource:
    """A source that one reader reads."""

    name: str
    live: bool
    reader: Reader
    reading: Reading

    @property
    def counters(self) -> SourceCounters:
        """The counters so far."""
        return self.reading.counters

    def pictures(self) -> Iterator[Picture]:
        """Yield the pictures as `Source` says."""
        for picture in self.reader(self.reading):
            if self.reading.closed:
                return
            self.counters.pictures += 1
            yield replace(picture, image=self.reading.view(picture.image))

    def close(self) -> None:
        """End `pictures()`."""
        self.reading.closed = True
