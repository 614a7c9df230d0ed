"""Metrics for Prometheus: one registry an application.

No label takes a value that a sender makes up freely: routes are patterns, reasons are those listed here, and of the
devices those that were seen last get a name of their own, at most `MAX_DEVICES`; the others are added up as `*`, which
cannot name a device. What the store knows is read when somebody asks, so it is right for several servers, too.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from fastapi import HTTPException
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from edge_stscq.errors import FrameError
from edge_stscq.events.publisher import Publisher
from edge_stscq.protocol import StreamAcknowledgement
from edge_stscq.server.auth import tokens
from edge_stscq.server.decoding.catalog import WrongModelError
from edge_stscq.server.ingest import Answer, ConflictError, TooManyFramesError
from edge_stscq.server.storage.device_stats import DeviceStatsCache
from edge_stscq.server.storage.face_store import DeviceStats

MAX_DEVICES = 500
"""Devices with a label of their own."""
REASONS = {
    ConflictError: "number_taken", WrongModelError: "wrong_model", TooManyFramesError: "too_many_frames",
    FrameError: "damaged",
}  # fmt: skip
_LAST_RECEIVED = "edge_stscq_device_last_received_seconds", "when its last face came, since 1970"
STATUS_REASONS = {403: "other_device", 408: "too_slow", 413: "too_large", 429: "over_allowance"}


class Metrics:
    """Counters of one application; the store's figures come from `device_stats`, those of events from `publishers`."""

    def __init__(self, device_stats: DeviceStatsCache, publishers: Sequence[Publisher] = ()) -> None:
        self.registry = CollectorRegistry()
        self._device_stats, self._publishers = device_stats, publishers
        self.requests = self._counter("requests", "HTTP requests by route and status", "method", "route", "status")
        self._frames = self._counter("frames", "frames by what became of them", "outcome")
        self._refused = self._counter("refused_bodies", "bodies of frames that were refused", "reason")
        self._bytes = self._counter("accepted_bytes", "bytes of accepted bodies")
        self._batches = self._histogram("decode_batch_faces", "faces in a batch", (1, 2, 4, 8, 16, 32, 64))
        seconds = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
        self._seconds = self._histogram("decode_batch_seconds", "time that the decoder took for a batch", seconds)
        self.registry.register(self)

    def _counter(self, name: str, what: str, *labels: str) -> Counter:
        return Counter(f"edge_stscq_{name}", what, labels, registry=self.registry)

    def _histogram(self, name: str, what: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(f"edge_stscq_{name}", what, buckets=buckets, registry=self.registry)

    def gauge(self, name: str, what: str, value: Callable[[], float]) -> None:
        """Show a number that something else keeps."""
        Gauge(f"edge_stscq_{name}", what, registry=self.registry).set_function(value)

    def record_upload(self, acknowledgement: Answer, size: int) -> None:
        self._bytes.inc(size)
        for outcome in ("stored", "extended", "duplicate"):
            if count := getattr(acknowledgement, outcome):
                self._frames.labels(outcome).inc(count)
        if isinstance(acknowledgement, StreamAcknowledgement) and acknowledgement.refused:
            self._frames.labels("refused").inc(len(acknowledgement.refused))

    @contextmanager
    def count_rejections(self) -> Iterator[None]:
        """Count what is raised for a body, by its reason."""
        try:
            yield
        except Exception as error:
            reason = next((text for kind, text in REASONS.items() if isinstance(error, kind)), "other")
            if isinstance(error, HTTPException):
                reason = STATUS_REASONS.get(error.status_code, "other")
            self._refused.labels(reason).inc()
            raise

    def record_batch(self, faces: int, seconds: float) -> None:
        self._batches.observe(faces)
        self._seconds.observe(seconds)

    def of_device(self, device: str) -> CollectorRegistry:
        """The figures of one device, for whoever may see no other's."""
        registry = CollectorRegistry()
        _, found = self._device_stats.get(device)
        faces = Gauge("edge_stscq_device_faces", "faces of a device", ["device"], registry=registry)
        seen = Gauge(*_LAST_RECEIVED, ["device"], registry=registry)
        for stats in found:
            faces.labels(device).set(stats.faces)
            seen.labels(device).set(stats.last_received)
        return registry

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        """Figures of the store, and of events."""
        labels = ["publisher", "outcome"]
        events = CounterMetricFamily("edge_stscq_events", "events, taken by other programs or given up", labels=labels)
        for one in self._publishers:
            events.add_metric([one.name, "sent"], one.counts.sent)
            events.add_metric([one.name, "lost"], one.counts.lost)
        if self._publishers:
            yield events
        _, devices = self._device_stats.get()
        for name, what, total in (
            ("stored_faces", "faces in the store", sum(stats.faces for stats in devices)),
            ("stored_bytes", "bytes of their frames", sum(stats.bytes for stats in devices)),
            ("devices", "devices of which a face is stored", len(devices)),
        ):
            yield GaugeMetricFamily(f"edge_stscq_{name}", what, value=total)
        faces = GaugeMetricFamily("edge_stscq_device_faces", "faces of a device", labels=["device"])
        seen = GaugeMetricFamily(*_LAST_RECEIVED, labels=["device"])
        for device, count, last in _named(devices):
            faces.add_metric([device], count)
            seen.add_metric([device], last)
        yield from (faces, seen)


def _named(devices: Sequence[DeviceStats]) -> Iterator[tuple[str, int, float]]:
    """Name, faces and last arrival of the devices seen last, and of all others as one."""
    latest = sorted(devices, key=lambda stats: stats.last_received, reverse=True)
    for stats in latest[:MAX_DEVICES]:
        yield stats.device, stats.faces, stats.last_received
    if others := latest[MAX_DEVICES:]:
        yield tokens.ANY_DEVICE, sum(stats.faces for stats in others), others[0].last_received
