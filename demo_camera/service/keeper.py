"""Keeper of one spool: a thread that writes captured faces into it, and holds them while the disk is full."""

import threading
import time
from collections import deque
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


class Keeper(threading.Thread):
    """Keeper of the spool at `path`.

    Args:
        camera: name of the camera and device.
        size: bound of the spool in bytes.
        most_unkept: see `MOST_UNKEPT`.
        pause: see `_PAUSE`.
        secret: that the spool is sealed with, None if it is in the clear.

    Attributes:
        waiting: faces in the spool, of late.
        repeated: faces that were in the spool before.
        lost: faces that are neither in memory nor in the spool.
    """

    def __init__(
        self, path: Path, camera: str, size: int, notices: Notices, *, most_unkept: int = MOST_UNKEPT,
        pause: float = _PAUSE, secret: bytes | None = None,
    ) -> None:  # fmt: skip
        super().__init__(name=f"keeper {camera}", daemon=True)
        self.path, self.waiting, self.repeated, self.lost = path, 0, 0, 0
        self._camera, self._size, self._notices, self._pause, self._secret = camera, size, notices, pause, secret
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
            self._changed.notify()

    def finish(self) -> None:
        """Have the rest written, and the thread end, soon."""
        with self._changed:
            self._ends_at = time.monotonic() + _LAST_TRIES
            self._changed.notify()

    def run(self) -> None:
        while not self._write_all() and time.monotonic() < self._ends_at:
            with self._changed:
                self._changed.wait(_LAST_PAUSE if self._ending else self._pause)
        if self.unkept:
            self.lost += self.unkept
            self._notices.begin(f"faces of {self._camera}", f"{self.unkept} could not be written and are lost")

    def _write_all(self) -> bool:
        """Write what comes until everything ends; False if the spool cannot be written now."""
        try:
            with Spool(self.path, self._camera, max_bytes=self._size, secret=self._secret) as spool:
                outlet = SpoolOutlet(spool, Journal.beside(self.path, spool.stream_id))
                while True:
                    self.waiting = spool.waiting
                    self._notices.end(self.place)
                    face = self._first()
                    if face is not None:
                        outlet.put(face)
                        self.repeated += outlet.repeated
                        outlet.repeated = 0
                        self._forget(face)
                    elif self._ending:
                        return True
        except EdgeError as error:
            self._notices.begin(self.place, str(error))
            return False

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
