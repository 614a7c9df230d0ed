"""Encoder of uploaded pictures for the routes: pictures wait in a short queue for the one process there is."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from edge_stscq.server.decoding.backend import BusyError
from edge_stscq.server.pictures.process import EncodedPicture

MAX_WAITING = 4
"""Pictures that may wait or be coded at once: each is held in memory, and takes a tenth of a second or more."""


class PictureEncoder:
    """Codes one picture after another, off the event loop.

    Args:
        encode: e.g. `EncoderProcess.encode`; called in one thread.
    """

    def __init__(self, encode: Callable[[bytes], EncodedPicture]) -> None:
        self._encode, self._waiting = encode, 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pictures")

    def check_free(self) -> None:
        """Refuse before a picture is read.

        Raises:
            BusyError: as many as may wait do.
        """
        if self._waiting >= MAX_WAITING:
            raise BusyError(f"{MAX_WAITING} pictures are being coded")

    async def encode(self, data: bytes) -> EncodedPicture:
        """Code the largest face of a picture file.

        Raises:
            BusyError: too many wait, or this one hung.
            RuntimeError: it could not be coded for a reason of the server's.
        """
        self.check_free()
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._encode, data)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
