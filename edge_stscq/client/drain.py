"""From a spool to a server: lease, send, acknowledge, until nothing waits.

A request carries faces with consecutive numbers. Basic layers go first; the further layers follow when no basic layer
waits, and the server completes the faces. A budget counts every try, HTTP header and body. A new request starts when
the budget allows a full one or is half there, so that a thin link carries many faces under one header.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from edge_stscq.client.byte_budget import ByteLimiter
from edge_stscq.client.sender import MAX_PAUSE, Sender, UnreachableError
from edge_stscq.client.spool import Lease, Spool
from edge_stscq.errors import EdgeError
from edge_stscq.stream.frame import HEADER_BYTES, stream_header

POLL = 0.5
"""Seconds between two looks at a spool in which nothing can be leased."""
FULL_REQUEST = 4096
"""Bytes; a budget that allows so much need not be saved up further."""


@dataclass
class DrainReport:
    """Counters of one drain.

    Attributes:
        faces: with nothing left to send.
        frames: acknowledged; of these, the server `stored`, `extended` or already knew (`duplicate`) so many.
        bytes: of all tries, HTTP headers and bodies.
        requests: all tries.
        retries: tries beyond the first of each batch.
    """

    faces: int = 0
    frames: int = 0
    stored: int = 0
    extended: int = 0
    duplicate: int = 0
    bytes: int = 0
    requests: int = 0
    retries: int = 0


class Drain:
    """Sends what one spool holds.

    Args:
        spool: leased from; other processes may lease, too.
        sender: of the spool's device.
        bucket: bytes that may leave; no limit if None.
        batch: most faces in one request.
        full_frames_only: send each face once, with all its layers, instead of the basic layers of all first.
        lease: seconds after which another process may send what this one took and did not finish, at most 3600.
        sleep: how to wait, in seconds.
    """

    def __init__(
        self,
        spool: Spool,
        sender: Sender,
        bucket: ByteLimiter | None = None,
        *,
        batch: int = 64,
        full_frames_only: bool = False,
        lease: float = 60.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._spool, self._sender, self._bucket = spool, sender, bucket
        self._batch, self._full_frames_only, self._seconds, self._sleep = batch, full_frames_only, lease, sleep
        self.report = DrainReport()

    def run(self, follow: bool = False, on_progress: Callable[[DrainReport], None] = lambda report: None) -> None:
        """Send until the spool is empty; with `follow`, for ever, and through outages.

        Faces that another process has on lease are waited for. `report` is right at any time.

        Args:
            on_progress: called with the counters after each acknowledged request.

        Raises:
            EdgeError: the server refused frames or, without `follow`, stayed out of reach. What was not acknowledged
                stays in the spool.
        """
        while True:
            lease = self._lease()
            if lease is None:
                if not follow and self._spool.waiting == 0:
                    return
                self._sleep(POLL)
                continue
            try:
                self._send(lease)
            except UnreachableError as error:
                if not follow:
                    raise EdgeError(f"{error} ({self._spool.waiting} faces wait in the spool)") from None
                self._sleep(MAX_PAUSE * random.uniform(0.5, 1))
            else:
                on_progress(self.report)

    def _lease(self) -> Lease | None:
        room = float("inf")
        if self._bucket is not None:
            self._bucket.wait_for(min(self._bucket.capacity / 2, FULL_REQUEST))
            room = self._bucket.level() - self._sender.request_overhead - HEADER_BYTES
        return self._spool.lease(self._batch, self._seconds, room, self._full_frames_only)

    def _send(self, lease: Lease) -> None:
        header = stream_header(lease.model_id)
        try:
            answer, tries = self._sender.send_batch(header, lease.frames, lease.first, self._before_try)
        except BaseException:
            self._spool.release(lease)
            raise
        report = self.report
        report.faces += self._spool.acknowledge(lease)
        report.frames += answer.count
        report.stored += answer.stored
        report.extended += answer.extended
        report.duplicate += answer.duplicate
        report.retries += tries - 1

    def _before_try(self, size: int) -> None:
        if self._bucket is not None:
            self._bucket.take(size)
        self.report.bytes += size
        self.report.requests += 1
