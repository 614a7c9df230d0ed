"""Interface between the HTTP routes and whatever decodes (micro-batcher or Ray).

`create_app` is the one definition of the routes. What it needs of a decoder is this: a bounded queue that takes one
face and gives its PNG, and that says how it is doing. In one process that is `MicroBatcher`; on Ray Serve it is
`RayDecoderBackend`, which hands each face to a replica elsewhere.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from edge_stscq.server.decoding.batcher import BusyError
from edge_stscq.server.decoding.catalog import Order

DecodeFn = Callable[[Sequence[Order]], Sequence[np.ndarray]]
"""Runs a batch: RGB uint8 [128, 128, 3] of each order."""


class DecoderBackend(Protocol):
    """An asynchronous context manager; it decodes while it is entered."""

    async def __aenter__(self) -> object: ...

    async def __aexit__(self, *_: object) -> object: ...

    @property
    def running(self) -> bool:
        """True if faces are taken at all."""

    @property
    def queued(self) -> int:
        """Faces that no decoder has begun, as far as is known."""

    @property
    def in_flight(self) -> int:
        """Faces that were submitted and are not decoded yet."""

    @property
    def batch_seconds(self) -> float:
        """For how long the work at hand has been going on; 0 when idle."""

    @property
    def failed_batches(self) -> int:
        """Failures since the last good result."""

    def rejection(self, waited: float = 0.0, queued_ahead: int = 0) -> BusyError | None:
        """Error with which a face would be refused now; None if it would be taken.

        Args:
            waited: seconds since its request came.
            queued_ahead: faces let in before it that are not submitted yet.
        """

    async def submit(self, item: Order, arrived: float | None = None) -> bytes:
        """The PNG of one face.

        Args:
            arrived: when its request came, by the event loop's clock; now if None.

        Raises:
            BusyError: there is no room now, or its deadline came first.
        """
