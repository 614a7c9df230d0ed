"""Decoder backends of one machine: a micro-batcher in front of a decoder in this process or in another."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from edge_stscq._images import encode_image
from edge_stscq.codec.execution_profile import profile_for
from edge_stscq.server.decoding.backend import BusyError
from edge_stscq.server.decoding.batcher import MicroBatcher
from edge_stscq.server.decoding.request import DecodeRequest
from edge_stscq.server.settings import ServerSettings

DecodeFn = Callable[[Sequence[DecodeRequest]], Sequence[NDArray[np.uint8]]]
"""Runs a batch: RGB uint8 [128, 128, 3] of each request."""
LocalBackend = MicroBatcher[DecodeRequest, NDArray[np.uint8], bytes]


def batching_backend(
    settings: ServerSettings, decode: DecodeFn, unavailable: Callable[[], BusyError | None] = lambda: None
) -> MicroBatcher[DecodeRequest, NDArray[np.uint8], bytes]:
    """Backend whose batches `decode` runs, for example `DecoderProcess.decode`; `unavailable` as for `MicroBatcher`."""
    return MicroBatcher(
        decode, encode_image, max_batch=profile_for(settings.device, settings.max_batch).max_batch,
        max_delay=settings.batch_delay, queue_size=settings.queue_size, deadline=settings.deadline,
        unavailable=unavailable,
    )  # fmt: skip


def in_process_backend(settings: ServerSettings) -> LocalBackend:
    """Backend with the decoders of the settings' models in this process, ready to run.

    Raises:
        EdgeError: a model folder is unusable, or the device is not there.
    """
    from edge_stscq.server.decoding.pool import (
        DecoderPool,  # and with it torch, which no other way to decode needs here
    )

    pool = DecoderPool(settings.model, settings.device, settings.max_batch)
    pool.warm_up()
    return batching_backend(settings, pool.decode)
