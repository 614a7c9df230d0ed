"""Pool of loaded decoders, one for each model, and the loop of a process that does nothing but decode."""

import os
import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_stscq.bundle.model_folder import load_frame_codec
from edge_stscq.codec.execution_profile import profile_for
from edge_stscq.codec.face_decoder import FaceDecoder
from edge_stscq.errors import EdgeError
from edge_stscq.server.decoding.confinement import User
from edge_stscq.server.decoding.request import DecodeRequest

_NICENESS = 10
"""Added to the server's: where processors are short, requests are answered first and faces decoded with what is left. A
server that answers late turns every face that it decodes into one that nobody waits for."""


class DecoderPool:
    """Load the decoders of the models in `folders` onto one device.

    Args:
        device: "cpu" or "cuda".
        max_batch: most faces decoded at once; what suits the device if None.

    Raises:
        EdgeError: a folder is unusable, or `device` is not there.
    """

    def __init__(self, folders: Sequence[Path], device: str = "cpu", max_batch: int | None = None) -> None:
        profile = profile_for(device, max_batch)
        self._decoders = {load_frame_codec(folder).model_id: FaceDecoder(folder, device, profile) for folder in folders}

    def decode(self, requests: Sequence[DecodeRequest]) -> list[NDArray[np.uint8]]:
        """RGB uint8 [128, 128, 3] of each request; one pass of each model's decoder.

        Raises:
            KeyError: the pool has no decoder of a request's model.
        """
        rows_of: dict[bytes, list[int]] = {}
        for row, request in enumerate(requests):
            rows_of.setdefault(request.model_id, []).append(row)
        pictures: dict[int, NDArray[np.uint8]] = {}
        for model_id, rows in rows_of.items():
            decoded = self._decoders[model_id].decode([requests[row].face for row in rows])
            pictures |= zip(rows, decoded, strict=True)
        return [pictures[row] for row in range(len(requests))]

    def warm_up(self) -> None:
        """Run every shape of every decoder once."""
        for decoder in self._decoders.values():
            decoder.warm_up()


def work(
    pipe: Connection, folders: tuple[Path, ...], device: str, max_batch: int | None, user: User | None,
    given_up: list[str],
) -> None:  # fmt: skip
    """Decode what the pipe asks for until its other end is closed.

    Args:
        given_up: what the process has given up already, in words.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both; the server decides when this one ends
    os.nice(_NICENESS)
    try:
        pool = DecoderPool(folders, device, max_batch)
        pool.warm_up()
        confinement = ", ".join([*([user.become()] if user else []), *given_up])
    except Exception as error:
        pipe.send((False, _line(error)))
        return
    pipe.send((True, confinement or "none"))
    while True:
        try:
            requests: list[DecodeRequest] = pipe.recv()
        except (EOFError, OSError):
            os._exit(0)  # the server is gone, and there is nothing to tidy up
        try:
            pictures = np.stack(pool.decode(requests))
        except Exception as error:
            pipe.send(_line(error))
        else:
            pipe.send(None)
            pipe.send_bytes(pictures.tobytes())


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}" if not isinstance(error, EdgeError) else str(error)
