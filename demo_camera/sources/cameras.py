"""Pictures of a camera as they are taken: the newest one, with time-outs, and a lost network camera found again.

A thread reads as fast as the camera gives, so that a slow consumer is late by one picture and not by a queue of them.
"""

import atexit
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

import cv2

from demo_camera.sources.captures import retrieve
from demo_camera.sources.picture import Picture
from demo_camera.sources.reading import TICK, Reading
from edge_stscq._images import opencv_silenced
from edge_stscq.device.clock import now
from edge_stscq.errors import EdgeError

_FAILURES = 10
"""Reads in a row that fail before a camera counts as lost."""
_PAUSE = 0.05
"""Seconds before a failed read is tried again."""
_PATIENCE = 1.0
"""Seconds that a thread has to end before it is left behind."""


@dataclass
class Camera:
    """Reader of a camera; `network` ones are connected again when they were lost."""

    name: str
    open: Callable[[], cv2.VideoCapture]
    network: bool
    remedy: str
    """Next step if it cannot be opened or is gone."""
    stream: bool = False
    """True for what is live whatever length it tells, as a recorder's RTSP does: its newest picture, found again."""

    def __call__(self, reading: Reading) -> Iterator[Picture]:
        """Yield the newest picture whenever one is asked for.

        Raises:
            EdgeError: it cannot be opened at first, or it is lost for good.
        """
        number = failed = 0
        lost = False
        while not reading.closed:
            connection = _Connection(self.open, reading, self.stream)
            try:
                while (picture := connection.take()) is not None:
                    reading.counters.reconnects += lost
                    failed, lost = 0, False
                    yield replace(picture, name=f"{self.name} picture {number}")
                    number += 1
            finally:
                connection.stop()
            if reading.closed:
                return
            if connection.finished and number:
                if connection.missing:
                    reading.say(f"{self.name} {connection.why}")
                return
            options = reading.options
            if number == 0 or not (self.network and options.reconnect):
                raise EdgeError(f"{self.name} {connection.why}{_after(number)}; {self.remedy}")
            if failed == options.backoff.tries:
                tried = f"{_after(number)}, and {failed} tries to connect failed"
                raise EdgeError(f"{self.name} {connection.why}{tried}; {self.remedy}")
            wait = options.backoff.wait(failed, random.random())
            reading.say(f"{self.name} {connection.why}; connecting again in {wait:.1f} s")
            reading.sleep(wait)
            failed, lost = failed + 1, True


_left: dict[threading.Thread, float] = {}
"""Threads that were left behind in a library, and when its own time-out must have ended them."""


@atexit.register
def _await_left() -> None:
    """Wait for them at the end of the process: Python's end would abort it where one comes back from C++ meanwhile."""
    with suppress(KeyboardInterrupt):
        for thread, end in _left.items():
            thread.join(max(0, end - time.monotonic()))


def _after(number: int) -> str:
    return f" after {number} picture{'s' * (number != 1)}" if number else ""


class _Connection:
    """One opening of a camera: a thread that reads it, and the newest picture."""

    def __init__(self, opening: Callable[[], cv2.VideoCapture], reading: Reading, stream: bool) -> None:
        self.why = "stopped"
        """Cause of its end, to be put behind the camera's name."""
        self.finished = False
        """True at the end of a film that was read over the network, and of a stream that tells its length."""
        self.missing = False
        """True if it is a film and ended before its length."""
        self._open = opening
        self._reading = reading
        self._stream = stream
        self._changed = threading.Condition()
        self._newest: Picture | None = None
        self._over = self._stopped = False
        self._seen = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)
        self._thread.start()

    def take(self) -> Picture | None:
        """The newest picture, as soon as there is one that was not taken; None at the end."""
        while not self._reading.closed:
            with self._changed:
                if self._newest is None and not self._over:
                    self._changed.wait(TICK)
                picture, self._newest = self._newest, None
                if picture is not None:
                    self._seen = time.monotonic()  # a film waits for whoever reads it
                    self._changed.notify_all()
                    return picture
                if self._over:
                    return None
            timeout = self._reading.options.timeout
            if time.monotonic() - self._seen > timeout:
                self.why = f"gave no picture for {timeout:g} s"
                return None
        return None

    def stop(self) -> None:
        """End the thread; one that hangs in a driver is left behind and ends when the driver lets it go."""
        self._stopped = True
        self._thread.join(_PATIENCE)
        if self._thread.is_alive():
            _left[self._thread] = time.monotonic() + self._reading.options.timeout + _PATIENCE

    def _run(self) -> None:
        capture = None
        try:
            capture = self._open()
            if capture.isOpened():
                self._read(capture)
            else:
                self.why = "cannot be opened"
        except cv2.error:
            self.why = "gives pictures that cannot be read"
        finally:
            if capture is not None:
                capture.release()
            with self._changed:
                self._over = True
                self._changed.notify_all()

    def _read(self, capture: cv2.VideoCapture) -> None:
        length = round(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        film = length > 0 and not self._stream
        came = failed = 0
        while not (self._stopped or self._reading.closed):
            began = time.monotonic()
            picture = self._next(capture, film)
            if picture is None:
                failed += 1
                if failed == _FAILURES or time.monotonic() - began >= self._reading.options.timeout:
                    whole = came >= length - max(2, length // 50)
                    self.finished = length > 0 and (whole or film)
                    self.missing = film and not whole
                    if self.missing:
                        self.why = f"may be cut short: {came} pictures of about {length} were read"
                    return
                time.sleep(0 if film else _PAUSE)
                continue
            self._reading.counters.damaged += failed
            failed = 0
            came += 1
            self._seen = time.monotonic()
            if isinstance(picture, Picture):
                self._put(picture, film)

    def _next(self, capture: cv2.VideoCapture, film: bool) -> "Picture | bool | None":
        """The next picture; True for one that is not wanted, None if the read failed."""
        with opencv_silenced():
            if not capture.grab():
                return None
        at = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 if film else time.monotonic()
        moment, clock = (None, None) if film else now()
        if not self._reading.admits(at):
            return True
        image = retrieve(capture)
        return None if image is None else Picture("", image, moment, clock, at)

    def _put(self, picture: Picture, keep: bool) -> None:
        with self._changed:
            while keep and self._newest is not None and not (self._stopped or self._reading.closed):
                self._changed.wait(TICK)
            self._reading.counters.dropped += self._newest is not None
            self._newest = picture
            self._changed.notify_all()
