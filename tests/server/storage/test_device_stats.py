"""Devices are counted afresh while that is cheap, and seldom where it is not."""

from types import SimpleNamespace

import pytest

from edge_stscq.server.storage import device_stats
from edge_stscq.server.storage.device_stats import HOUR, DeviceStatsCache
from edge_stscq.server.storage.face_store import DeviceStats


class Store:
    """Takes `seconds` of the clock `now` to count."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.now, self.asked = seconds, 1000.0, list[float]()

    def devices(self, since: float) -> list[DeviceStats]:
        self.asked.append(since)
        self.now += self.seconds
        return [DeviceStats(name, len(self.asked), 1, 1.0, 0, 0) for name in ("cam", "door")]


@pytest.mark.parametrize(("seconds", "after", "counts"), [(0.04, 0.0, 2), (2.0, 39.0, 1), (2.0, 41.0, 2)])
def test_device_stats_cached_in_proportion(
    monkeypatch: pytest.MonkeyPatch, seconds: float, after: float, counts: int
) -> None:
    store = Store(seconds)
    monkeypatch.setattr(device_stats, "time", SimpleNamespace(time=lambda: store.now, monotonic=lambda: store.now))
    cache = DeviceStatsCache(store)
    first = cache.get()
    assert (first.time, store.asked) == (1000.0, [1000.0 - HOUR])
    store.now += after
    assert [(one.device, one.faces) for one in cache.get("door").devices] == [("door", counts)]
    assert len(store.asked) == counts


def test_device_stats_failure_not_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(9.0)
    cache = DeviceStatsCache(store)
    monkeypatch.setattr(store, "devices", lambda since: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cache.get()
    monkeypatch.undo()
    assert len(cache.get().devices) == 2
