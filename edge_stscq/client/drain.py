"""From a spool to a server: lease, send, acknowledge, until nothing waits.

A request carries faces with consecutive numbers. Basic layers go first; the further layers follow when no basic layer
waits, and the server completes the faces. A budget counts every try, HTTP header and body. A new request starts when
the budget allows a full one or is half there, so that a thin link carries many faces under one header.

What the server refuses is set aside in the spool, and what is behind it goes on; what it has erased is removed there,
too. A request that is refused as a whole is sent again in halves, down to the face that it cannot take; one that was
too large is not made so large again.
"""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edge_stscq.client.byte_budget import ByteLimiter
from edge_stscq.client.lease import Lease
from edge_stscq.client.sender import MAX_PAUSE, RequestRefusedError, Sender, Sent, UnreachableError
from edge_stscq.client.spool import Spool
from edge_stscq.errors import EdgeError
from edge_stscq.protocol import REFUSED_REQUEST, Refused, RefusedFrame
from edge_stscq.stream.frame import stream_header

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
        refused: faces that are set aside.
    """

    faces: int = 0
    frames: int = 0
    stored: int = 0
    extended: int = 0
    duplicate: int = 0
    bytes: int = 0
    requests: int = 0
    retries: int = 0
    refused: int = 0


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
            EdgeError: the server refused this device, speaks another version or, without `follow`, stayed out of reach.
                What was not acknowledged stays in the spool.
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
            room = self._bucket.level() - self._sender.request_overhead
        return self._spool.lease(self._batch, self._seconds, room, self._full_frames_only)

    def _send(self, lease: Lease) -> None:
        refused: dict[int, RefusedFrame] = {}
        answered = lease.first
        try:
            for upto in self._parts(lease, lease.first, lease.last + 1, refused):
                answered = upto
        finally:
            if answered == lease.first:
                self._spool.release(lease)
            else:
                self.report.faces += self._spool.settle(lease, refused, answered)

    def _parts(self, lease: Lease, start: int, end: int, refused: dict[int, RefusedFrame]) -> Iterator[int]:
        """Send the faces `start` to `end - 1` in as few requests as the server takes.

        Yields:
            After each request the number up to which all is answered; what is refused is added to `refused`.
        """
        try:
            sent = self._request(lease, start, end)
        except RequestRefusedError as error:
            if end - start > 1:
                middle = (start + end) // 2
                if error.too_large:
                    self._batch = min(self._batch, end - middle)
                yield from self._parts(lease, start, middle, refused)
                yield from self._parts(lease, middle, end, refused)
                return
            stream = self._spool.stream_id.hex()
            refused[start] = RefusedFrame(stream=stream, number=start, code=REFUSED_REQUEST, reason=error.reason)
            self.report.refused += 1
            yield end
            return
        answer, report = sent.answer, self.report
        refused |= {one.number: one for one in answer.refused if start <= one.number < end}
        report.frames += answer.count - len(answer.refused)
        report.stored += answer.stored
        report.extended += answer.extended
        report.duplicate += answer.duplicate
        report.refused += sum(one.code != Refused.ERASED for one in answer.refused)
        report.retries += sent.tries - 1
        yield end

    def _request(self, lease: Lease, start: int, end: int) -> Sent:
        part = slice(start - lease.first, end - lease.first)
        if lease.frames:
            return self._sender.send_frames(lease.frames[part], self._spool.key, self._before_try)
        header = stream_header(lease.model_id)
        return self._sender.send_version_1(header, lease.frames_1[part], start, self._before_try)

    def _before_try(self, size: int) -> None:
        if self._bucket is not None:
            self._bucket.take(size)
        self.report.bytes += size
        self.report.requests += 1
