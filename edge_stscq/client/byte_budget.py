"""A byte budget: so many bytes a second, minute, hour or day, and no more.

A token bucket holds at most one period's bytes and fills evenly. Requests take theirs from it before they go, so in any
`t` seconds no more leaves than `bytes + t * bytes / seconds`, in one process.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from edge_stscq._token_bucket import TokenBucket
from edge_stscq.errors import EdgeError

SIZES = {"B": 1, "kB": 1000, "KiB": 1024, "MB": 1000**2, "MiB": 1024**2, "GB": 1000**3, "GiB": 1024**3}
"""Bytes of each unit."""
PERIODS = {"s": 1, "min": 60, "h": 3600, "d": 86400}
"""Seconds of each period."""
SHORTEST_WAIT = 0.001
"""Seconds; keeps rounding errors from making a wait of nothing."""


@dataclass(frozen=True)
class Budget:
    """At most `bytes` (1 or more) in `seconds`."""

    bytes: int
    seconds: int


def parse_size(text: str) -> int:
    """Bytes of a size such as `64MiB`, `2kB` or `500B`.

    Raises:
        EdgeError: it is not a size, or less than a byte.
    """
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s?([A-Za-z]+)", text, re.ASCII)
    if found is None or found[2] not in SIZES:
        raise EdgeError(f"{text!r} is not a size; write a number and one of {', '.join(SIZES)}, e.g. 64MiB")
    size = int(float(found[1]) * SIZES[found[2]])
    if size < 1:
        raise EdgeError(f"{text!r} is less than a byte; choose a larger size")
    return size


def parse_budget(text: str) -> Budget:
    """A budget such as `2kB/min`, `500B/s` or `1MB/h`.

    Raises:
        EdgeError: it is not a size, a slash and a period.
    """
    size, slash, period = text.partition("/")
    if not slash:
        raise EdgeError(f"{text!r} is not a budget; write a size, a slash and a period, e.g. 2kB/min")
    if period not in PERIODS:
        raise EdgeError(f"{period!r} in {text!r} is not a period; use one of {', '.join(PERIODS)}, e.g. 2kB/min")
    return Budget(parse_size(size), PERIODS[period])


class ByteLimiter:
    """Waits until bytes may leave; the budget is saved up for one period at most, and full at first.

    Args:
        clock: seconds of a clock that never goes back.
        sleep: how to wait, in seconds.
    """

    def __init__(
        self,
        budget: Budget,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.capacity = budget.bytes
        self._clock, self._sleep = clock, sleep
        self._bucket = TokenBucket(budget.bytes, budget.bytes / budget.seconds, clock())

    def level(self) -> float:
        """Bytes that may leave now; negative after something larger than the bucket."""
        return self._bucket.level(self._clock())

    def wait_for(self, size: float) -> None:
        """Wait until `size` bytes may leave; until the bucket is full, if that is less."""
        while (seconds := self._bucket.seconds_until(min(size, self.capacity), self._clock())) > 0:
            self._sleep(max(seconds, SHORTEST_WAIT))

    def take(self, size: int) -> None:
        """Wait for `size` bytes and take them. What is larger than the bucket goes when it is full; the debt is paid
        before anything else leaves.
        """
        self.wait_for(size)
        self._bucket.take(size, self._clock())
