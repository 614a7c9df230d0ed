"""A camera's side of protection: every face under a key of its own, whose salt stays in a key store."""

import secrets
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_stscq.privacy.key_store import KeyStore
from edge_stscq.privacy.scheme import Scheme


class Protector:
    """Makes the template of each face that a camera captures.

    Args:
        scheme: of the templates.
        keys: gets a record for each face, `DEVICE-` and 16 random hexadecimal digits.
        device: name of the camera.

    Example:
        >>> protector = Protector(scheme_named("rotated"), keys, "door-1")
        >>> template = protector.protect(matcher.embed([face])[0])
    """

    def __init__(self, scheme: Scheme[Any], keys: KeyStore, device: str) -> None:
        self._scheme, self._keys, self._device = scheme, keys, device
        self._issued: list[str] = []

    def protect(self, embedding: NDArray[np.float32]) -> bytes:
        """A template under a fresh key.

        Args:
            embedding: unit vector float32 `[128]`.

        Raises:
            EdgeError: the embedding is no unit vector (no key is issued), or the key store cannot be written.
        """
        self._scheme.check(embedding)
        record = f"{self._device}-{secrets.token_hex(8)}"
        template = self._scheme.enroll(embedding, self._keys.issue(record))
        self._issued.append(record)
        return template

    def withdraw(self, kept: int) -> int:
        """Revoke the records of all templates but the first `kept`, which were kept; how many that were.

        Raises:
            EdgeError: the key store cannot be written; what is left opens nothing.
        """
        lost, self._issued = self._issued[kept:], self._issued[:kept]
        for record in lost:
            self._keys.revoke(record)
        return len(lost)
