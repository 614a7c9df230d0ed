"""Reader of one camera: a thread that opens its source, hands on pictures, and opens it again when it fails."""

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import closing
from enum import StrEnum

from demo_camera.service.parts import OpenSource, Source
from demo_camera.sources import Picture
from edge_stscq.errors import EdgeError
from edge_stscq.events.notices import Notices

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before a source is opened again, give or take half; doubled with each failure."""
_RATE_OF = 30
"""Pictures over which the rate is reckoned."""
_LOG = logging.getLogger(__name__)


class State(StrEnum):
    """State of a camera."""

    OPENING = "opening"
    RUNNING = "running"
    AWAY = "away"
    """It failed and is opened again after a pause."""
    ENDED = "ended"
    """All pictures of a source that is not live were taken."""


class Interrupted:
    """In place of a picture: the next one may be of another time, so that visits end here."""


class Reader(threading.Thread):
    """Reader of one camera. Of a live source only the newest picture is kept; of another one, none is passed over.

    Args:
        name: of the camera.
        open_source: opens the source; called again after each failure.
        arrived: notified of each picture; shared by all cameras.
        stopping: set when everything ends.
        first_pause: see `FIRST_PAUSE`.

    Attributes:
        state: where it is.
        skipped: pictures of a live source that a newer one took the place of.
        restarts: times that the source was opened again.
    """

    def __init__(
        self, name: str, open_source: OpenSource, arrived: threading.Condition, stopping: threading.Event,
        notices: Notices, *, first_pause: float = FIRST_PAUSE, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        super().__init__(name=f"reader {name}", daemon=True)
        self.camera, self.state, self.skipped, self.restarts = name, State.OPENING, 0, 0
        self._open, self._arrived, self._stopping, self._notices = open_source, arrived, stopping, notices
        self._first_pause, self._clock = first_pause, clock
        self._source: Source | None = None
        self._damaged = 0
        self._waiting: Picture | Interrupted | None = None
        self._latest = clock()
        self._times: deque[float] = deque(maxlen=_RATE_OF)

    def take(self) -> Picture | Interrupted | None:
        """The newest picture, once; None if there is none. The caller holds `arrived`."""
        taken, self._waiting = self._waiting, None
        if taken is not None:
            self._arrived.notify_all()
        return taken

    @property
    def waiting(self) -> bool:
        return self._waiting is not None

    def silence(self) -> float:
        """Seconds since the last picture, or since the start if none came."""
        return self._clock() - self._latest

    def rate(self) -> float:
        """Pictures a second, of late."""
        times = list(self._times)
        return (len(times) - 1) / max(self._clock() - times[0], 1e-3) if len(times) > 1 else 0.0

    @property
    def damaged(self) -> int:
        """Pictures that the source could not decode."""
        source = self._source
        return self._damaged + (0 if source is None else source.counters.damaged)

    def close(self) -> None:
        """End the source; the thread ends soon."""
        source = self._source
        if source is not None:
            source.close()

    def run(self) -> None:
        pause = self._first_pause
        while not self._stopping.is_set():
            before = self._latest
            trouble = self._read()
            if trouble is None or self._stopping.is_set():
                return
            self.state = State.AWAY
            self._hand_over(Interrupted(), newest=False)
            self._notices.begin(f"camera {self.camera}", trouble)
            if self._latest != before:
                pause = self._first_pause
            self._stopping.wait(pause * random.uniform(0.5, 1.5))
            pause = min(2 * pause, LONGEST_PAUSE)
            self.restarts += 1

    def _read(self) -> str | None:
        """Hand on all pictures of the source; why it is to be opened again, or None."""
        live, failure = True, None
        try:
            with closing(self._open()) as source:
                self._source, live = source, source.live
                if self._stopping.is_set():  # `close` may have come too early to find the source
                    return None
                for picture in source.pictures():
                    self._note_picture()
                    self._hand_over(picture, newest=live)
                    if self._stopping.is_set():
                        return None
        except EdgeError as error:
            failure = str(error)
        except Exception as error:
            _LOG.exception("camera %s", self.camera)
            failure = f"its source failed with {type(error).__name__} (--verbose shows more); it is opened again"
        finally:
            if self._source is not None:
                self._damaged += self._source.counters.damaged
            self._source = None
        if live or self.state is not State.RUNNING:
            return failure or "the stream ended; it is opened again"
        self._hand_over(Interrupted(), newest=False)
        self.state = State.ENDED
        if failure is not None:
            self._notices.begin(f"camera {self.camera}", failure)
        return None

    def _note_picture(self) -> None:
        self._latest = self._clock()
        self._times.append(self._latest)
        if self.state is not State.RUNNING:
            self.state = State.RUNNING
            self._notices.end(f"camera {self.camera}")

    def _hand_over(self, picture: Picture | Interrupted, newest: bool) -> None:
        """Leave a picture to be taken; with `newest` in place of one that was not taken, otherwise after it."""
        with self._arrived:
            if newest and self._waiting is not None and not isinstance(self._waiting, Interrupted):
                self.skipped += 1
            else:
                while self._waiting is not None and not self._stopping.is_set():
                    self._arrived.wait(0.5)
            self._waiting = picture
            self._arrived.notify_all()
