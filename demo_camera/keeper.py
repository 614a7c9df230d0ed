"""Keeper of one spool: a thread that writes captured faces into it, and holds them while it takes none.

A spool takes nothing while its disk is full or another process holds it. Nobody whom a camera waits for stands still
meanwhile, and a face is lost only when there are too many of them, or when everything ends.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from demo_camera.journal import Journal
from demo_camera.outlets import SpoolOutlet
from demo_camera.results import Capture
from edge_stscq.client.spool import Spool
from edge_stscq.errors import EdgeError
from edge_stscq.events.notices import Notices

MOST_UNKEPT = 500
"""Faces that wait in memory for a spool, 50 kB each; of more, the oldest are lost."""
_PAUSE = 2.0
"""Seconds between two tries to write."""
_LAST_TRIES, _LAST_PAUSE = 3.0, 0.2
"""Seconds that writing may be tried when everything ends, and between two tries then."""
_LOOK = 1.0
"""Seconds between two looks at the number of faces that wait."""
_WAIT = 1.0
"""Seconds in which another process must let go of the spool; it is tried again."""
_GLANCE = 0.1
"""Seconds between two looks of who waits for a face to be written."""


class Keeper(threading.Thread):
    """Keeper of the spool at `path`.

    Args:
        camera: name of the camera and device.
        size: bound of the spool in bytes; as it was if None.
        most_unkept: see `MOST_UNKEPT`.
        pause: see `_PAUSE`.
        secret: that the spool is sealed with, None if it is in the clear.
        again: errors of the spool after which it is tried again; any other ends the thread.

    Attributes:
        trouble: reason why the spool takes nothing now; None if it does.
        failure: error that ended the thread.
        waiting: faces in the spool, of late.
        repeated: faces that were in the spool before.
        lost: faces that are neither in memory nor in the spool.
    """

    def __init__(
        self, path: Path, camera: str, size: int | None, notices: Notices, *, most_unkept: int = MOST_UNKEPT,
        pause: float = _PAUSE, secret: bytes | None = None, again: type[EdgeError] = EdgeError,
    ) -> None:  # fmt: skip
        super().__init__(name=f"keeper {camera}", daemon=True)
        self.path, self.waiting, self.repeated, self.lost = path, 0, 0, 0
        self._camera, self._size, self._notices, self._pause, self._secret = camera, size, notices, pause, secret
        self._again = again
        self.trouble: str | None = None
        self.failure: EdgeError | None = None
        self._faces: deque[Capture] = deque()
        self._most, self._changed, self._ends_at = most_unkept, threading.Condition(), float("inf")

    @property
    def place(self) -> str:
        return f"spool {self._camera}"

    @property
    def unkept(self) -> int:
        return len(self._faces)

    def put(self, face: Capture) -> None:
        """Have a face written soon, unless it is known: films and folders may be read again."""
        with self._changed:
            if len(self._faces) >= self._most:
                self._faces.popleft()
                self.lost += 1
            self._faces.append(face)
            self._changed.notify_all()

    def wait(self, patient: Callable[[], bool]) -> None:
        """Return when all is written, or the thread has ended; in trouble, when `patient` says no."""
        with self._changed:
            while self._faces and self.is_alive() and (self.trouble is None or patient()):
                self._changed.wait(_GLANCE)

    def finish(self) -> None:
        """Have the rest written, and the thread end, soon."""
        with self._changed:
            self._ends_at = time.monotonic() + _LAST_TRIES
            self._changed.notify_all()

    def run(self) -> None:
        try:
            while not self._write_all() and time.monotonic() < self._ends_at:
                self._rest()
        except EdgeError as error:
            self.failure = error
        if self.unkept:
            self.lost += self.unkept
            self._notices.begin(f"faces of {self._camera}", f"{self.unkept} could not be written and are lost")

    def _rest(self) -> None:
        """Pause after a failure; what comes meanwhile, but the end, does not cut it short."""
        until = time.monotonic() + (_LAST_PAUSE if self._ending else self._pause)
        with self._changed:
            ending = self._ending
            while self._ending == ending and (rest := until - time.monotonic()) > 0:
                self._changed.wait(rest)

    def _write_all(self) -> bool:
        """Write what comes until everything ends; False if the spool cannot be written now."""
        try:
            with Spool(
                self.path, self._camera, max_bytes=self._size, secret=self._secret, wait_seconds=_WAIT
            ) as spool:  # fmt: skip
                outlet = SpoolOutlet(spool, Journal.beside(self.path, spool.stream_id))
                while True:
                    self.waiting = spool.waiting
                    self._set_trouble(None)
                    face = self._first()
                    if face is not None:
                        outlet.put(face)
                        self.repeated += outlet.repeated
                        outlet.repeated = 0
                        self._forget(face)
                    elif self._ending:
                        return True
        except self._again as error:
            self._set_trouble(str(error))
            return False

    def _set_trouble(self, reason: str | None) -> None:
        with self._changed:
            self.trouble = reason
            self._changed.notify_all()
        if reason is None:
            self._notices.end(self.place)
        else:
            self._notices.begin(self.place, reason)

    @property
    def _ending(self) -> bool:
        return self._ends_at < float("inf")

    def _first(self) -> Capture | None:
        """The oldest face that is not written; None if none comes for a while."""
        with self._changed:
            if not self._faces and not self._ending:
                self._changed.wait(_LOOK)
            return self._faces[0] if self._faces else None

    def _forget(self, face: Capture) -> None:
        with self._changed:
            if self._faces and self._faces[0] is face:
                self._faces.popleft()
            else:  # it was pushed out and given up while it was being written
                self.lost -= 1
            self._changed.notify_all()


class KeptSpool:
    """Outlet into a spool by its keeper, which is started.

    A face that was put is on the disk then, unless the spool takes nothing for now: then it is held, and a source that
    goes on without us goes on, while one that waits is kept waiting.

    Args:
        live: pictures come whether they are looked at or not.
        stopped: tells if everything is to end.
    """

    def __init__(self, keeper: Keeper, live: bool, stopped: Callable[[], bool]) -> None:
        self._keeper, self._live, self._stopped = keeper, live, stopped

    def put(self, capture: Capture) -> None:
        """Take one face.

        Raises:
            EdgeError: the spool is of no use any more; once.
        """
        self._keeper.put(capture)
        self._keeper.wait(lambda: not self._live and not self._stopped())
        self.poll()

    def poll(self) -> None:
        """Say what has ended the keeper; errors as `put`."""
        failure, self._keeper.failure = self._keeper.failure, None
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Have the rest written.

        Raises:
            EdgeError: some could not be.
        """
        self._keeper.finish()
        self._keeper.join()
        self.poll()
        if self._keeper.lost:
            reason = "" if self._keeper.trouble is None else f" ({self._keeper.trouble})"
            raise EdgeError(f"{self._keeper.lost} of the faces are not in {self._keeper.path} and are lost{reason}")
