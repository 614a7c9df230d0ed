"""Who paints the faces that the routes ask for.

`create_app` is the one definition of the routes. What it needs of a decoder is this: a bounded queue that takes one
face and gives its PNG, and that says how it is doing. In one process that is `MicroBatcher`; on Ray Serve it is
`RayPainter`, which hands each face to a replica elsewhere.
"""

from typing import Protocol

from edge_stscq.server.decode_service import Job


class Painter(Protocol):
    """An asynchronous context manager; it paints while it is entered."""

    async def __aenter__(self) -> object: ...

    async def __aexit__(self, *_: object) -> object: ...

    @property
    def running(self) -> bool:
        """Whether faces are taken at all."""

    @property
    def full(self) -> bool:
        """Whether the next face would be refused."""

    @property
    def batch_seconds(self) -> float:
        """For how long the work at hand has been going on; 0 when idle."""

    @property
    def failed_batches(self) -> int:
        """Failures since the last good result."""

    async def submit(self, item: Job) -> bytes:
        """The PNG of one face.

        Raises:
            BusyError: there is no room now; nothing was queued.
        """
