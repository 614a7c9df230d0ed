"""Per-device statistics, cached in proportion to what computing them costs.

Counting reads every face. A small store is counted each time somebody asks; where counting takes longer than
`CACHE_ABOVE_SECONDS`, its result is kept for `CACHE_FACTOR` times as long as it took, so that pages and scrapers
together take no more than a small share of the store's time, however large it is and however often they ask.
"""

import threading
import time
from typing import NamedTuple

from edge_stscq.server.storage.face_store import DeviceStats, FaceStore

HOUR = 3600.0
"""Seconds."""
CACHE_ABOVE_SECONDS = 0.05
CACHE_FACTOR = 20


class DeviceStatsSnapshot(NamedTuple):
    """`devices` as they were at `time`, seconds since 1970 UTC, by name; recent is the hour before."""

    time: float
    devices: list[DeviceStats]


class DeviceStatsCache:
    """Counts `store`; safe to call from many threads, of which one counts and the others wait for it."""

    def __init__(self, store: FaceStore) -> None:
        self._store, self._lock = store, threading.Lock()
        self._known, self._keep_until = DeviceStatsSnapshot(0.0, []), 0.0

    def get(self, device: str | None = None) -> DeviceStatsSnapshot:
        """All devices, or `device` alone. Raises `StoreError` if the store cannot be read."""
        with self._lock:
            if (begin := time.monotonic()) >= self._keep_until:
                now = time.time()
                self._known = DeviceStatsSnapshot(now, self._store.devices(now - HOUR))
                took = time.monotonic() - begin
                self._keep_until = time.monotonic() + (CACHE_FACTOR * took if took > CACHE_ABOVE_SECONDS else 0.0)
            known = self._known
        return (
            known
            if device is None
            else DeviceStatsSnapshot(known.time, [one for one in known.devices if one.device == device])
        )
