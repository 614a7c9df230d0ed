"""Rate limits: one token bucket a key, filled evenly up to one minute's units.

A device that was silent may burst, a greedy one is held to the rate. A bucket may be overdrawn by what has arrived
already, and is waited for then, so that a large request always gets through in the end.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from edge_stscq._token_bucket import TokenBucket

MAX_KEYS = 4096
"""Buckets that are remembered; beyond, the one that was asked longest ago is forgotten."""


@dataclass(slots=True)
class _Entry:
    bucket: TokenBucket
    refused: bool = False


@dataclass(frozen=True, slots=True)
class RateLimited:
    """Not now. `seconds` until the next may pass; `repeated` if the request before was refused too."""

    seconds: float
    repeated: bool


class RateLimiter:
    """`per_minute` units a key and minute; safe to call from many threads.

    Args:
        per_minute: units a bucket holds, and gains each minute.
        clock: seconds, never going back.
    """

    def __init__(self, per_minute: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute, self._clock, self._lock = per_minute, clock, threading.Lock()
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    def __len__(self) -> int:
        """Keys remembered; at most `MAX_KEYS`."""
        return len(self._entries)

    def acquire(self, key: str, amount: float) -> RateLimited | None:
        """Take `amount` units (0 to `per_minute`) if they are there and the bucket is not empty, else none of them."""
        with self._lock:
            now, entry = self._clock(), self._entry(key)
            level = entry.bucket.level(now)
            if level >= amount and level > 0:
                entry.bucket.take(amount, now)
                entry.refused = False
                return None
            limited = RateLimited(entry.bucket.seconds_until(amount, now), entry.refused)
            entry.refused = True
            return limited

    def charge(self, key: str, amount: float) -> None:
        """Take `amount` units that were used already, into debt if need be."""
        with self._lock:
            self._entry(key).bucket.take(amount, self._clock())

    def _entry(self, key: str) -> _Entry:
        entry = self._entries.get(key)
        if entry is None:
            bucket = TokenBucket(self._per_minute, self._per_minute / 60, self._clock())
            entry = self._entries[key] = _Entry(bucket)
        self._entries.move_to_end(key)
        if len(self._entries) > MAX_KEYS:
            self._entries.popitem(last=False)
        return entry
