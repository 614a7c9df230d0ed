"""Worker: one thread that looks at the newest picture of each camera in turn, by one detector and one encoder."""

import logging
import threading
import time
from collections.abc import Callable, Sequence

from demo_camera.service.lane import Lane
from demo_camera.service.parts import Say, Step, TrackEvent
from demo_camera.service.reader import Interrupted, State
from demo_camera.sources import Picture
from edge_stscq.events.notices import Notices

_LOG = logging.getLogger(__name__)
_BEAT = 0.5
"""Seconds between two signs of life while no picture comes."""

OnTrack = Callable[[str, TrackEvent], None]
"""Called with the name of the camera."""


class Worker(threading.Thread):
    """Worker of all cameras, whose turns are round robin: a fast one never takes the turn of a slow one.

    Args:
        arrived: as of all readers.
        stopping: when it is set, visits are ended and the thread ends.
        on_track: called with each event of a visit.

    Attributes:
        beat: when it last showed a sign of life, by `clock`.
        idle: true once all cameras have ended and all their pictures were looked at.
    """

    def __init__(
        self, lanes: Sequence[Lane], arrived: threading.Condition, stopping: threading.Event, notices: Notices,
        say: Say, on_track: OnTrack, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        super().__init__(name="worker", daemon=True)
        self._lanes, self._arrived, self._stopping, self._notices = list(lanes), arrived, stopping, notices
        self._say, self._on_track, self._clock = say, on_track, clock
        self.beat, self.idle = clock(), False

    def run(self) -> None:
        while not self._stopping.is_set():
            self.beat = self._clock()
            taken = self._next()
            if taken is not None:
                self._handle(*taken)
        for lane in self._lanes:
            self._finish(lane)

    def _next(self) -> tuple[Lane, Picture | Interrupted] | None:
        """The first waiting picture, beginning with the camera whose turn is longest ago; None if none comes soon."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: any(lane.reader.waiting for lane in self._lanes), _BEAT):
                self.idle = all(lane.reader.state is State.ENDED for lane in self._lanes)
                return None
            for at, lane in enumerate(self._lanes):
                if (picture := lane.reader.take()) is not None:
                    self._lanes = self._lanes[:at] + self._lanes[at + 1 :] + [lane]
                    return lane, picture
        return None

    def _handle(self, lane: Lane, picture: Picture | Interrupted) -> None:
        if isinstance(picture, Interrupted):
            self._finish(lane)
            return
        self._give(lane, "pictures", lambda: lane.loop.step(picture))

    def _finish(self, lane: Lane) -> None:
        """End the visits before a camera; their faces are kept."""
        self._give(lane, "visits", lane.loop.end)

    def _give(self, lane: Lane, what: str, look: Callable[[], Step]) -> None:
        """Take a step of a loop, and pass on what it gave; a loop that fails does not end the others."""
        began = self._clock()
        place = f"{what} of {lane.name}"
        try:
            step = look()
        except Exception as error:
            _LOG.exception("camera %s", lane.name)
            lane.failures += 1
            self._notices.begin(place, f"cannot be looked at: {error or type(error).__name__} (--verbose shows more)")
            return
        finally:
            lane.seconds += self._clock() - began
        self._notices.end(place)
        for capture in step.captures:
            lane.keeper.put(capture)
            self._say("face", camera=lane.name, bytes=capture.coded.payload_bytes)
        for event in step.events:
            self._on_track(lane.name, event)
