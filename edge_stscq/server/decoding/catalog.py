"""Models that one server holds, by model id.

Every stream names its model and every stored face keeps that name, so frames of any loaded model are accepted and each
face is decoded by its own decoder. All decoders share one device and one queue.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_stscq.errors import EdgeError
from edge_stscq.server.decoding.face_decoder import FaceDecoder, Job
from edge_stscq.server.decoding.profile import profile_for


class WrongModelError(EdgeError):
    """A model that this server does not hold."""


@dataclass(frozen=True, slots=True)
class Order:
    """A face to decode, and the decoder that does it."""

    service: FaceDecoder
    job: Job

    @property
    def key(self) -> str:
        """Names the picture by its content, 32 hexadecimal digits: model, group and the tokens that are decoded."""
        face, config = self.job.face, self.service.config
        seen = face.truncate(self.job.layers, config.layer_ends)
        content = self.service.model_id + seen.group.to_bytes(2) + seen.tokens.tobytes()
        return hashlib.sha256(content).hexdigest()[:32]


class Models:
    """Load the models in `folders`.

    Args:
        device: "cpu" or "cuda".
        max_batch: most faces decoded at once; what suits the device if None.

    Attributes:
        max_batch: the same, as it was chosen.

    Raises:
        EdgeError: a folder is unusable, two hold the same model, or `device` is not there.
    """

    def __init__(self, folders: Sequence[Path], device: str = "cpu", max_batch: int | None = None) -> None:
        profile = profile_for(device, max_batch)
        self.max_batch = profile.max_batch
        self._services: dict[bytes, FaceDecoder] = {}
        for folder in folders:
            service = FaceDecoder(folder, device, profile)
            if service.model_id in self._services:
                raise EdgeError(f"{folder} holds model {service.model_id.hex()} a second time; name each model once")
            self._services[service.model_id] = service

    def __iter__(self) -> Iterator[FaceDecoder]:
        return iter(self._services.values())

    @property
    def names(self) -> str:
        """Name and id of each, for people."""
        return ", ".join(f"{service.config.name} {service.model_id.hex()}" for service in self)

    def find(self, model: bytes, what: str) -> FaceDecoder:
        """The service of a model.

        Args:
            what: of this model, to begin the error with.

        Raises:
            WrongModelError: it is not loaded.
        """
        service = self._services.get(model)
        if service is None:
            held = ", ".join(each.hex() for each in self._services)
            raise WrongModelError(
                f"{what} is of model {model.hex()} and this server holds {held}; "
                "use the model it was encoded with, or start the server with that --model, too"
            )
        return service

    def decode(self, orders: Sequence[Order]) -> list[np.ndarray]:
        """RGB uint8 [128, 128, 3] of each order; one pass of each model's decoder."""
        pictures: dict[int, np.ndarray] = {}
        for service in self:
            rows = [row for row, order in enumerate(orders) if order.service is service]
            pictures |= zip(rows, service.decode([orders[row].job for row in rows]), strict=True)
        return [pictures[row] for row in range(len(orders))]

    def warm_up(self) -> None:
        for service in self:
            service.warm_up()
