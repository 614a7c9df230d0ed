"""Seal of a spool: every frame that waits on a device, encrypted under one key that follows from the device's secret.

A frame is sealed about its stream, its number, its time of capture and which of a face's frames it is.
"""

import struct

from edge_stscq.errors import EdgeError
from edge_stscq.sealing.cipher import SALT_BYTES, derived

_ABOUT = struct.Struct("<qd")


class SpoolSeal:
    """Seals and opens the frames of one spool.

    Args:
        secret: of the device.
        salt: of the spool, 32 random bytes.

    Attributes:
        verifier: 16 bytes, by which a right secret is told.

    Example:
        >>> seal = SpoolSeal(read_secret("file:device.secret"), secrets.token_bytes(32))
        >>> frame = seal.open(seal.seal(frame, stream, 7, None, "basics"), stream, 7, None, "basics")
    """

    def __init__(self, secret: bytes, salt: bytes) -> None:
        if len(salt) != SALT_BYTES:
            raise EdgeError(f"a salt has {SALT_BYTES} bytes, not {len(salt)}")
        self._cipher, self.verifier = derived(secret, salt, b"spool")

    def seal(self, frame: bytes, stream: bytes, number: int, captured: float | None, table: str) -> bytes:
        """A frame as it lies in the file."""
        return self._cipher.seal(frame, _about(stream, number, captured, table))

    def open(self, sealed: bytes, stream: bytes, number: int, captured: float | None, table: str) -> bytes:
        """A frame as it was put.

        Raises:
            UnreadableError: it was damaged, or moved.
        """
        return self._cipher.open(sealed, _about(stream, number, captured, table))


def _about(stream: bytes, number: int, captured: float | None, table: str) -> bytes:
    return b"frame\n" + stream + _ABOUT.pack(number, -1.0 if captured is None else captured) + table.encode()
