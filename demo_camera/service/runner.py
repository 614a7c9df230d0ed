"""The service: all lanes, the worker, publishers and the monitor, from start to end."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus

from prometheus_client import CONTENT_TYPE_LATEST

from demo_camera.keeper import Keeper
from demo_camera.service.delivery import Delivery, SharedByteLimiter, make_destination
from demo_camera.service.events.message import Messages
from demo_camera.service.events.publishers import make_publishers
from demo_camera.service.lane import Lane, Status
from demo_camera.service.monitor.http import PLAIN, MonitorServer
from demo_camera.service.monitor.metrics import Metrics
from demo_camera.service.monitor.readiness import LONGEST_STEP, unready
from demo_camera.service.monitor.systemd import notify, watchdog_period
from demo_camera.service.parts import Loop, Say, Source, TrackEvent
from demo_camera.service.reader import Reader
from demo_camera.service.settings import CameraSettings, Settings
from demo_camera.service.worker import Worker
from edge_stscq._secrets import read_secret
from edge_stscq.client.byte_budget import parse_budget, parse_size
from edge_stscq.client.spool import Spool
from edge_stscq.events.notices import Notices

TICK = 0.2
"""Seconds between two looks of the main thread at everything."""
_LAST_SECONDS = 4.0
"""Seconds that each kind of thread has to end."""


@dataclass(frozen=True)
class Parts:
    """Makers of what the service is given.

    Attributes:
        source: opens the source of a camera.
        loop: makes the capture loop of a camera.
        self_test: says what is wrong with this device, None if nothing is.
    """

    source: Callable[[CameraSettings], Source]
    loop: Callable[[CameraSettings], Loop]
    self_test: Callable[[], str | None]


class Service:
    """Service with these settings; `run` runs it once, in the main thread.

    Args:
        say: called, from any thread, with `trouble`, `over`, `face`, `track`, `listening` or `end` and its fields.

    Attributes:
        address: of the monitor, e.g. `http://127.0.0.1:9464`; None if there is none.

    Raises:
        EdgeError: a spool cannot be opened or is another camera's, its secret cannot be read, the monitor's port cannot
            be had, or a part cannot be made.
    """

    def __init__(self, settings: Settings, parts: Parts, say: Say) -> None:
        self._settings, self._parts, self._say = settings, parts, say
        self._notices, self._messages = Notices(say), Messages()
        self._stopping, self._arrived, self._asked = threading.Event(), threading.Condition(), False
        self._self_test: str | None = "not finished yet"
        server, limiter = settings.server, None
        if server is not None and server.budget is not None:
            limiter = SharedByteLimiter(parse_budget(server.budget), self._stopping)
        secret = None if settings.spool.seal is None else read_secret(settings.spool.seal)
        self._lanes = [self._lane(camera, limiter, secret) for camera in settings.camera]
        self._worker = Worker(self._lanes, self._arrived, self._stopping, self._notices, say, self._on_track)
        self._publishers = make_publishers(settings.events, self._notices)
        self._metrics = Metrics(self.status, self._publishers, self._notices.current)
        pages = {"/metrics": self._metrics_page, "/health": self._health, "/ready": self._ready}
        monitor = settings.metrics
        self._monitor = None if monitor is None else MonitorServer(monitor.host, monitor.port, pages)

    @property
    def address(self) -> str | None:
        if self._monitor is None:
            return None
        host, port = self._monitor.server_address[:2]
        return f"http://{host!s}:{port}"

    def status(self) -> list[Status]:
        """Figures of all cameras."""
        return [lane.status() for lane in self._lanes]

    def stop(self) -> None:
        """Have `run` end soon; all that a signal's handler may do."""
        self._asked = True

    def run(self) -> bool:
        """Run until `stop` is called or all cameras have ended; within a few seconds then, all captured faces are in
        their spools.

        Returns:
            True if the self-test passed; otherwise no camera was opened.
        """
        if self._monitor is not None:
            self._monitor.start()
            self._say("listening", address=self.address)
        try:
            self._self_test = self._parts.self_test()
            if self._self_test is None:
                self._begin()
            else:
                self._notices.begin("self-test", self._self_test)
            notify("READY=1")
            self._watch()
        finally:
            notify("STOPPING=1")
            self._end()
        return self._self_test is None

    def _lane(self, camera: CameraSettings, limiter: SharedByteLimiter | None, secret: bytes | None) -> Lane:
        path, size = self._settings.spool.folder / f"{camera.name}.spool", parse_size(self._settings.spool.size)
        with Spool(path, camera.name, max_bytes=size, secret=secret):
            pass  # made here, so that one that cannot be is said before anything begins
        reader = Reader(camera.name, partial(self._parts.source, camera), self._arrived, self._stopping, self._notices)
        delivery = None
        if (server := self._settings.server) is not None:
            to = make_destination(server, camera, limiter)
            delivery = Delivery(path, camera.name, to, self._notices, self._stopping, secret=secret)
        keeper = Keeper(path, camera.name, size, self._notices, secret=secret)
        return Lane(reader, self._parts.loop(camera), keeper, delivery)

    def _begin(self) -> None:
        for publisher in self._publishers:
            publisher.start()
        self._worker.start()
        for lane in self._lanes:
            lane.keeper.start()
            if lane.delivery is not None:
                lane.delivery.start()
            lane.reader.start()

    def _watch(self) -> None:
        """Look after everything until it is to end."""
        period = watchdog_period()
        told = float("-inf")
        while not self._asked and not self._worker.idle:
            time.sleep(TICK)
            if self._self_test is None and not self._worker.is_alive():
                raise RuntimeError("the worker ended by itself")
            if period is not None and self._alive() and time.monotonic() - told > period / 3:
                notify("WATCHDOG=1")
                told = time.monotonic()

    def _end(self) -> None:
        self._stopping.set()
        if self._self_test is None:
            for lane in self._lanes:
                lane.reader.close()
            with self._arrived:
                self._arrived.notify_all()
            _join([self._worker])
            for lane in self._lanes:
                lane.keeper.finish()
            _join([lane.keeper for lane in self._lanes])
            closing = [threading.Thread(target=publisher.close, daemon=True) for publisher in self._publishers]
            for thread in closing:
                thread.start()
            deliveries = [lane.delivery for lane in self._lanes if lane.delivery is not None]
            _join([*closing, *(lane.reader for lane in self._lanes), *deliveries])
        if self._monitor is not None:
            self._monitor.stop()
        figures = self.status()
        self._say("end", faces=sum(one.faces for one in figures), waiting=sum(one.waiting for one in figures))

    def _on_track(self, camera: str, event: TrackEvent) -> None:
        message = self._messages.of(camera, event)
        self._say("track", kind=event.kind, **message)
        for publisher in self._publishers:
            publisher.publish(message)

    def _alive(self) -> bool:
        return self._self_test is not None or time.monotonic() - self._worker.beat < LONGEST_STEP

    def _metrics_page(self) -> tuple[HTTPStatus, str, bytes]:
        return HTTPStatus.OK, CONTENT_TYPE_LATEST, self._metrics.text()

    def _health(self) -> tuple[HTTPStatus, str, bytes]:
        if self._alive():
            return HTTPStatus.OK, PLAIN, b"alive\n"
        return HTTPStatus.SERVICE_UNAVAILABLE, PLAIN, b"no picture was finished for a minute\n"

    def _ready(self) -> tuple[HTTPStatus, str, bytes]:
        assert self._settings.metrics is not None
        silent_after = self._settings.metrics.silent_after
        reasons = unready(self.status(), self._notices.current(), self._self_test, silent_after)
        if reasons:
            return HTTPStatus.SERVICE_UNAVAILABLE, PLAIN, "".join(f"{reason}\n" for reason in reasons).encode()
        return HTTPStatus.OK, PLAIN, b"ready\n"


def _join(threads: Sequence[threading.Thread]) -> None:
    """Wait for threads to end, for a few seconds in all."""
    ends = time.monotonic() + _LAST_SECONDS
    for thread in threads:
        thread.join(max(0.0, ends - time.monotonic()))
