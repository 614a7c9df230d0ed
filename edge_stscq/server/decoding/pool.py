"""Pool of loaded decoders, one for each model, for whichever process decodes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_stscq.codec.execution_profile import profile_for
from edge_stscq.codec.face_decoder import FaceDecoder
from edge_stscq.codec.store import load_frame_codec
from edge_stscq.server.decoding.request import DecodeRequest


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
