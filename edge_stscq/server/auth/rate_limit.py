"""Rate limits: token buckets by key.

One bucket a key, filled evenly up to one minute's allowance: a device that was silent may burst, a greedy one is held
to the rate. A bucket may be overdrawn by what has arrived already, and is waited for then, so that a large request
always gets through in the end.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

MAX_KEYS = 4096
"""Buckets that are remembered; beyond, the one that was asked longest ago is forgotten."""


@dataclass(slots=True)
class _Bucket:
    balance: float
    counted: float
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
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        """Keys remembered; at most `MAX_KEYS`."""
        return len(self._buckets)

    def acquire(self, key: str, amount: float) -> RateLimited | None:
        """Take `amount` units (0 to `per_minute`) if they are there and the bucket is not empty, else none of them."""
        with self._lock:
            bucket = self._filled(key)
            if bucket.balance >= amount and bucket.balance > 0:
                bucket.balance -= amount
                bucket.refused = False
                return None
            limited = RateLimited((amount - bucket.balance) * 60 / self._per_minute, bucket.refused)
            bucket.refused = True
            return limited

    def charge(self, key: str, amount: float) -> None:
        """Take `amount` units that were used already, into debt if need be."""
        with self._lock:
            self._filled(key).balance -= amount

    def _filled(self, key: str) -> _Bucket:
        now = self._clock()
        bucket = self._buckets.setdefault(key, _Bucket(self._per_minute, now))
        self._buckets.move_to_end(key)
        if len(self._buckets) > MAX_KEYS:
            self._buckets.popitem(last=False)
        gained = (now - bucket.counted) * self._per_minute / 60
        bucket.balance, bucket.counted = min(self._per_minute, bucket.balance + gained), now
        return bucket
