"""Decoder backend: the interface between the HTTP routes and whatever decodes, and its health.

`create_app` is the one definition of the routes. What it needs of a decoder is this: a bounded queue that takes one
face and gives its PNG, and that says how it is doing. In one process that is `MicroBatcher`; on Ray Serve it is
`RayDecoderBackend`, which hands each face to a replica elsewhere.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from edge_stscq.server.decoding.request import DecodeRequest

STALLED_SECONDS = 60.0
"""Work that goes on for longer than this is a failure."""
MAX_FAILURES = 3
"""As many batches in a row without one good result are a failure."""


class BusyError(Exception):
    """Not now; it may work in `retry_after` seconds."""

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class BackendStats:
    """State of a backend.

    Attributes:
        running: True if faces are taken at all.
        queued: faces that no decoder has begun, as far as is known.
        in_flight: faces that were submitted and are not decoded yet, those of `queued` among them.
        oldest_seconds: for how long the work at hand has been going on; 0 when idle.
        failures: failed batches since the last good result.
    """

    running: bool
    queued: int
    in_flight: int
    oldest_seconds: float
    failures: int

    @property
    def unhealthy_reason(self) -> str | None:
        """Reason to restart the server; None if it is well."""
        if not self.running:
            return "the decoder's queue is not running"
        if self.oldest_seconds > STALLED_SECONDS:
            return f"a batch has been running for {self.oldest_seconds:.0f} seconds"
        if self.failures >= MAX_FAILURES:
            return f"the last {self.failures} batches failed"
        return None


class DecoderBackend(Protocol):
    """An asynchronous context manager; it decodes while it is entered.

    Attributes:
        on_batch: called after a batch of this process with its faces and seconds; the application sets it.
    """

    on_batch: Callable[[int, float], None]

    async def __aenter__(self) -> object: ...

    async def __aexit__(self, *_: object) -> object: ...

    def load(self) -> BackendStats:
        """State now; may be called from any thread."""

    def rejection(self, waited: float = 0.0, queued_ahead: int = 0) -> BusyError | None:
        """Error with which a face would be refused now; None if it would be taken.

        Args:
            waited: seconds since its request came.
            queued_ahead: faces let in before it that are not submitted yet.
        """

    async def submit(self, request: DecodeRequest, arrived: float | None = None) -> bytes:
        """The PNG of one face.

        Args:
            arrived: when its request came, by the event loop's clock; now if None.

        Raises:
            BusyError: there is no room now, or its deadline came first.
        """
