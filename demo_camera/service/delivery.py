"""Delivery of one spool: a thread that drains it to the server for as long as the service runs."""

import random
import ssl
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import SecretStr

from demo_camera.service.files import read_secret
from demo_camera.service.settings import CameraSettings, ServerSettings
from edge_stscq._tls import client_context
from edge_stscq.client.byte_budget import Budget, ByteLimiter
from edge_stscq.client.drain import Drain, DrainReport
from edge_stscq.client.sender import Sender
from edge_stscq.client.spool import Spool
from edge_stscq.errors import EdgeError
from edge_stscq.events.notices import Notices

_LOOK = 1.0
"""Seconds between two looks at an empty spool."""
_FIRST_PAUSE, _LONGEST_PAUSE = 2.0, 120.0
"""Seconds after a failure, doubled with each further one, give or take half."""
_ATTEMPTS = 3
"""Tries of a request before the server is said to be away."""


class _StoppedError(BaseException):
    """Raised in the middle of a drain when everything ends; leases end by themselves."""


class SharedByteLimiter(ByteLimiter):
    """A byte budget of several deliveries, each of which takes its bytes after the one before it.

    Args:
        stopping: as of the deliveries, so that none waits for bytes when everything ends.
    """

    def __init__(self, budget: Budget, stopping: threading.Event) -> None:
        super().__init__(budget, sleep=partial(_sleep, stopping))
        self._lock = threading.RLock()

    def level(self) -> float:
        with self._lock:
            return super().level()

    def wait_for(self, size: float) -> None:
        with self._lock:
            super().wait_for(size)

    def take(self, size: int) -> None:
        with self._lock:
            super().take(size)


@dataclass(frozen=True)
class Destination:
    """A server and what it takes to be let in.

    Attributes:
        limiter: of all deliveries together; no limit if None.
    """

    url: str
    token: SecretStr | None = None
    tls: ssl.SSLContext | None = None
    limiter: ByteLimiter | None = None


def make_destination(server: ServerSettings, camera: CameraSettings, limiter: ByteLimiter | None) -> Destination:
    """Destination of one camera's faces.

    Raises:
        EdgeError: a token or a certificate cannot be used.
    """
    file = camera.token_file or server.token_file
    token = None if file is None else read_secret(file)
    return Destination(server.url, token, client_context(server.cert, server.key, server.ca), limiter)


class Delivery(threading.Thread):
    """Delivery of the spool at `path`, which exists.

    Args:
        camera: name of the camera and device.
        stopping: set when everything ends; the thread ends soon, what was not acknowledged stays in the spool.
        first_pause: seconds, see `_FIRST_PAUSE`.
        secret: that the spool is sealed with, None if it is in the clear.

    Attributes:
        report: what was sent so far.
    """

    def __init__(
        self, path: Path, camera: str, destination: Destination, notices: Notices, stopping: threading.Event,
        *, first_pause: float = _FIRST_PAUSE, secret: bytes | None = None,
    ) -> None:  # fmt: skip
        super().__init__(name=f"delivery {camera}", daemon=True)
        self.report = DrainReport()
        self._path, self._camera, self._to, self._notices = path, camera, destination, notices
        self._sleep, self._secret = partial(_sleep, stopping), secret
        self._first_pause = self._pause = first_pause

    def run(self) -> None:
        try:
            while True:
                try:
                    self._drain()
                except EdgeError as error:
                    # what the sender says to someone at a command line
                    text = str(error).replace("; run the same command again", "; it is tried again")
                    self._notices.begin(f"server for {self._camera}", text)
                    self._sleep(self._pause * random.uniform(0.5, 1.5))
                    self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        except _StoppedError:
            return

    def _drain(self) -> None:
        """Send what waits, again and again; raises `EdgeError` if the server does not take it."""
        token = None if self._to.token is None else self._to.token.get_secret_value()
        with (
            Spool(self._path, secret=self._secret) as spool,
            Sender(
                self._to.url, self._camera, token=token, attempts=_ATTEMPTS, tls=self._to.tls, sleep=self._sleep
            ) as sender,
        ):
            drain = Drain(spool, sender, self._to.limiter, sleep=self._sleep)
            drain.report = self.report
            while True:
                drain.run(on_progress=self._on_progress)
                self._sleep(_LOOK)

    def _on_progress(self, report: DrainReport) -> None:
        self._notices.end(f"server for {self._camera}")
        self._pause = self._first_pause
        if report.refused:
            self._notices.begin(
                f"refused faces of {self._camera}",
                f"the server refused some, set aside; `edge-stscq spool status {self._path}` says why",
            )
        self._sleep(0)  # a full spool is sent without a pause, and everything may end meanwhile


def _sleep(stopping: threading.Event, seconds: float) -> None:
    if stopping.wait(seconds):
        raise _StoppedError
