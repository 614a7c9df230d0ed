"""Stand-ins: sources that give what a test tells them to, loops without a detector, and servers on free ports."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import SimpleQueue

import numpy as np

from demo_camera.results import Capture
from demo_camera.sources import Picture, SourceCounters
from edge_stscq.device.detect import Face
from edge_stscq.errors import EdgeError
from tests.client.filled import captured
from tests.support.streams import long_codec

SECONDS = 30.0
"""That a test waits for what must come."""
CODEC = long_codec()


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until a condition holds; fails if it never does."""
    ends = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < ends, "it did not come about"
        time.sleep(0.005)


def picture(name: str) -> Picture:
    return Picture(name, np.zeros((8, 8, 3), np.uint8))


class FakeSource:
    """Source of what is `given`: names of pictures, an error to be raised, or None for the end."""

    def __init__(self, live: bool = True) -> None:
        self.live, self.closed = live, False
        self.given: SimpleQueue[str | Exception | None] = SimpleQueue()

    @property
    def counters(self) -> SourceCounters:
        return SourceCounters(damaged=1)

    def give(self, *things: str | Exception | None) -> "FakeSource":
        for thing in things:
            self.given.put(thing)
        return self

    def pictures(self) -> Iterator[Picture]:
        while (thing := self.given.get()) is not None:
            if isinstance(thing, Exception):
                raise thing
            yield picture(thing)

    def close(self) -> None:
        self.closed = True
        self.given.put(None)


def capture(number: int) -> Capture:
    """Face of this number; each has another crop and other tokens."""
    crop = np.random.default_rng(number).integers(0, 256, (128, 128, 3), np.uint8)
    face = Face(np.zeros((5, 2)), (0, 0, 60, 60), 0.9)
    return Capture(f"picture {number}", face, crop, captured(CODEC, number), 50)


@dataclass(frozen=True)
class FakeEvent:
    kind: str
    track: int
    score: float = 50.0
    captured_ms: int | None = 1_790_000_000_123


@dataclass(frozen=True)
class FakeStep:
    captures: list[Capture] = field(default_factory=list)
    events: list[FakeEvent] = field(default_factory=list)


@dataclass
class FakeCounters:
    pictures: int = 0
    tracks: int = 0
    faces: int = 0
    rejected: Counter[str] = field(default_factory=Counter)


class FakeLoop:
    """Loop that captures a face of each picture named `face...` at once, and of `visit...` when visits end.

    Attributes:
        seen: names of the pictures, and "end" for each end of visits.
        hold: pictures are not finished while it is set.
    """

    def __init__(self) -> None:
        self.counters, self.hold = FakeCounters(), threading.Event()
        self.seen: list[str] = []
        self._open = 0

    def step(self, picture: Picture) -> FakeStep:
        self.seen.append(picture.name)
        while self.hold.is_set():
            time.sleep(0.005)
        self.counters.pictures += 1
        if picture.name.startswith("odd"):
            raise ValueError("an odd picture")
        if picture.name.startswith("visit"):
            self._open += 1
            self.counters.tracks += 1
            return FakeStep(events=[FakeEvent("new", self.counters.tracks - 1)])
        if picture.name.startswith("face"):
            return FakeStep([self._capture()])
        self.counters.rejected["no face"] += 1
        return FakeStep()

    def end(self) -> FakeStep:
        self.seen.append("end")
        ended, self._open = self._open, 0
        first = self.counters.tracks - ended
        return FakeStep([self._capture() for _ in range(ended)], [FakeEvent("end", first + n) for n in range(ended)])

    def _capture(self) -> Capture:
        self.counters.faces += 1
        return capture(self.counters.faces)


class Said:
    """Collects what a service says; for any number of threads."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def __call__(self, event: str, **fields: object) -> None:
        self.events.append((event, fields))

    def of(self, event: str) -> list[dict[str, object]]:
        return [fields for name, fields in list(self.events) if name == event]


@dataclass
class Received:
    path: str
    headers: dict[str, str]
    body: bytes


class Receiver:
    """HTTP server on a free port that keeps every POST and answers as it is told.

    Attributes:
        answer: gives status, headers and content for a request.
    """

    def __init__(self, answer: Callable[[Received], tuple[int, dict[str, str], bytes]]) -> None:
        self.answer, self.received = answer, list[Received]()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                request = Received(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
                receiver.received.append(request)
                status, headers, content = receiver.answer(request)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    @contextmanager
    def running(self) -> "Iterator[Receiver]":
        thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


def away(times: int, source: FakeSource) -> Callable[[], FakeSource]:
    """Opener of a source that cannot be opened the first few times."""
    left = [times]

    def open_source() -> FakeSource:
        if left[0]:
            left[0] -= 1
            raise EdgeError("the camera cannot be opened; plug it in")
        return source

    return open_source
