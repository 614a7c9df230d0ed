"""Metrics for Prometheus, read when somebody asks. Labels come from the settings and the gate."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from demo_camera.service.lane import Status
from demo_camera.service.reader import State
from edge_stscq.events.publisher import Publisher

_PREFIX = "edge_stscq_camera"
_COUNTERS: dict[str, tuple[str, Callable[[Status], float]]] = {
    "pictures": ("pictures looked at", lambda one: one.pictures),
    "skipped": ("pictures that a newer one took the place of", lambda one: one.skipped),
    "damaged": ("pictures that could not be decoded", lambda one: one.damaged),
    "failures": ("pictures that the loop failed at", lambda one: one.failures),
    "faces": ("faces captured", lambda one: one.faces),
    "tracks": ("visits that began", lambda one: one.tracks),
    "reconnects": ("times that the source was opened again", lambda one: one.restarts),
    "seconds": ("seconds that detector, gate and encoder took", lambda one: one.seconds),
    "repeated_faces": ("faces that were in the spool before", lambda one: one.repeated),
    "lost_faces": ("faces that no spool took", lambda one: one.lost),
    "delivered_faces": ("faces that the server has", lambda one: one.delivered),
    "set_aside_faces": ("faces that the server refused", lambda one: one.set_aside),
    "sent_bytes": ("bytes of all requests", lambda one: one.bytes_sent),
}
_GAUGES: dict[str, tuple[str, Callable[[Status], float]]] = {
    "up": ("1 while pictures come", lambda one: one.state is State.RUNNING),
    "picture_age_seconds": ("seconds since the last picture", lambda one: one.silence),
    "spool_faces": ("faces that wait in the spool", lambda one: one.waiting),
    "unkept_faces": ("faces that wait in memory for the spool", lambda one: one.unkept),
}


class Metrics(Collector):
    """Metrics of one service.

    Args:
        cameras: gives the figures of all cameras.
        troubles: gives the places of troubles that last, as of `Notices.current`.
    """

    def __init__(
        self, cameras: Callable[[], Sequence[Status]], publishers: Sequence[Publisher],
        troubles: Callable[[], Iterable[str]],
    ) -> None:  # fmt: skip
        self._cameras, self._publishers, self._troubles = cameras, publishers, troubles
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """All metrics in the text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        cameras = self._cameras()
        for name, (help_, value) in _COUNTERS.items():
            counter = CounterMetricFamily(f"{_PREFIX}_{name}", help_, labels=("camera",))
            for one in cameras:
                counter.add_metric((one.name,), value(one))
            yield counter
        refused = CounterMetricFamily(f"{_PREFIX}_refused", "faces not captured", labels=("camera", "reason"))
        for one in cameras:
            for reason, count in one.refused.items():
                refused.add_metric((one.name, reason), count)
        yield refused
        for name, (help_, value) in _GAUGES.items():
            gauge = GaugeMetricFamily(f"{_PREFIX}_{name}", help_, labels=("camera",))
            for one in cameras:
                gauge.add_metric((one.name,), value(one))
            yield gauge
        troubles = GaugeMetricFamily(f"{_PREFIX}_trouble", "1 for each place in trouble", labels=("place",))
        for place in self._troubles():
            troubles.add_metric((place,), 1)
        yield troubles
        events = CounterMetricFamily(f"{_PREFIX}_events", "events of visits", labels=("publisher", "outcome"))
        for publisher in self._publishers:
            events.add_metric((publisher.name, "sent"), publisher.counts.sent)
            events.add_metric((publisher.name, "lost"), publisher.counts.lost)
        yield events
