"""Who paints the faces that the routes ask for.

`create_app` is the one definition of the routes. What it needs of a decoder is this: a bounded queue that takes one
face and gives its PNG, and that says how it is doing. In one process that is `MicroBatcher`; on Ray Serve it is
`RayPainter`, which hands each face to a replica elsewhere.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from edge_stscq.server.decoding.batcher import BusyError
from edge_stscq.server.decoding.catalog import Order

Paint = Callable[[Sequence[Order]], Sequence[np.ndarray]]
"""Runs a batch: RGB uint8 [128, 128, 3] of each order."""


class Painter(Protocol):
    """An asynchronous context manager; it paints while it is entered."""

    async def __aenter__(self) -> object: ...

    async def __aexit__(self, *_: object) -> object: ...

    @property
    def running(self) -> bool:
        """Whether faces are taken at all."""

    @property
    def waiting(self) -> int:
        """Faces that no decoder has begun, as far as is known."""

    @property
    def under_way(self) -> int:
        """Faces that were submitted and are not painted yet."""

    @property
    def batch_seconds(self) -> float:
        """For how long the work at hand has been going on; 0 when idle."""

    @property
    def failed_batches(self) -> int:
        """Failures since the last good result."""

    def refusal(self, waited: float = 0.0, coming: int = 0) -> BusyError | None:
        """What a face would be refused with.

        Args:
            waited: seconds since its request came.
            coming: faces let in before it that are not submitted yet.
        """

    async def submit(self, item: Order, arrived: float | None = None) -> bytes:
        """The PNG of one face.

        Args:
            arrived: when its request came, by the event loop's clock; now if None.

        Raises:
            BusyError: there is no room now, or its deadline came first.
        """
