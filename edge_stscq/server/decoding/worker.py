"""Decoder in a process of its own, so that a busy server decodes on and a broken decoder takes nothing with it.

Python runs one thread at a time. A decoder in the server's process waits for a turn at every operation of its network,
and under a flood of requests hardly gets one; in a process of its own it has what the machine gives it. Requests and
pictures cross a pipe. The process ends when the server does, however that ends; if it dies first, or hangs, the faces
it was decoding fail, and another is begun at once. Until that one has loaded its networks, faces are refused and not
kept waiting.
"""

import multiprocessing
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_stscq.config.codec import CROP
from edge_stscq.errors import EdgeError
from edge_stscq.server.decoding.backend import BusyError
from edge_stscq.server.decoding.confinement import User, run_confined
from edge_stscq.server.decoding.request import DecodeRequest

START_SECONDS = 300.0
"""For loading the networks and running them once, on a busy machine."""
HUNG_SECONDS = 15.0
"""A batch that takes longer is not waited for: its decoder is replaced."""
_END_SECONDS = 10.0


class DecoderProcess:
    """Begin to load a `DecoderPool`, elsewhere. One thread at a time may call its methods.

    Args:
        folders, device, max_batch: as for `DecoderPool`.
        user: whose rights it has, where the server has those of root; None for the server's own.

    Raises:
        EdgeError: `user` is not one whose rights it can have.

    Attributes:
        confinement: what it has given up (see `confinement`), in words; known once it is ready.
    """

    _process: multiprocessing.process.BaseProcess
    _pipe: Connection

    def __init__(
        self, folders: Sequence[Path], device: str, max_batch: int | None = None, user: str | None = None
    ) -> None:
        self._arguments = tuple(folders), device, max_batch, User.named(user) if user else None
        self.confinement = "not started"
        self._start_took = 0.0
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._begun, self._ready = time.monotonic(), False
        self._pipe, child_end = context.Pipe()
        self._process = context.Process(
            target=run_confined, args=(child_end, *self._arguments), name="decoder", daemon=True
        )
        self._process.start()
        child_end.close()

    def unavailable(self) -> BusyError | None:
        """Refusal of a face while the networks are being loaded, from any thread; None if it would be decoded."""
        try:
            if self._ready or self._pipe.poll():
                return None
        except OSError:  # closed: the next batch begins another
            return None
        left = self._start_took - (time.monotonic() - self._begun)
        return BusyError("the decoder is starting", max(left, 1.0))

    @property
    def pid(self) -> int | None:
        return self._process.pid

    def wait_until_ready(self) -> None:
        """Wait until the networks are loaded and have run once.

        Raises:
            EdgeError: they cannot be; the message says why.
        """
        try:
            if not self._pipe.poll(START_SECONDS):
                raise EdgeError(f"the decoder cannot start: {self._hung(START_SECONDS)}")
            done, said = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join(_END_SECONDS)
            done, said = False, f"its process ended with {self._process.exitcode}"
        if not done:
            raise EdgeError(f"the decoder cannot start: {said}")
        self.confinement, self._ready, self._start_took = said, True, time.monotonic() - self._begun

    def decode(self, requests: Sequence[DecodeRequest]) -> list[NDArray[np.uint8]]:
        """RGB uint8 [128, 128, 3] of each request.

        Raises:
            EdgeError: it cannot start, any more.
            RuntimeError: decoding them failed, or the process died of it.
            BusyError: the process hung, and is replaced; or it was, and is not ready yet.
        """
        if not self._process.is_alive():
            self._replace()
        if (busy := self.unavailable()) is not None:
            raise busy
        if not self._ready:
            self.wait_until_ready()
        try:
            self._pipe.send(list(requests))
            self._await_answer()
            problem = self._pipe.recv()
            if problem is not None:
                raise RuntimeError(problem)
            self._await_answer()
            pictures = np.frombuffer(self._pipe.recv_bytes(), np.uint8)
            return [*pictures.reshape(len(requests), CROP, CROP, 3)]
        except (EOFError, OSError):
            self._process.join(_END_SECONDS)
            code = self._process.exitcode
            self._replace()
            raise RuntimeError(f"the decoder's process ended with {code}") from None

    def _await_answer(self) -> None:
        """Wait for what the process sends next, and replace it if that does not come."""
        if not self._pipe.poll(HUNG_SECONDS):
            reason = self._hung(HUNG_SECONDS)
            self._replace()
            raise BusyError(reason, self._start_took)

    def _replace(self) -> None:
        """Begin another process, of which nothing is awaited."""
        self.close()
        self._start()

    def _hung(self, seconds: float) -> str:
        """End the process; why it had to."""
        self._process.kill()
        self._process.join(_END_SECONDS)
        return f"its process did nothing for {seconds:g} seconds and was ended"

    def close(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.join()
        self._pipe.close()
