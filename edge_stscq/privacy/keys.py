"""Record keys: one for each protected template, made of a secret and a salt of its own.

HKDF is RFC 5869's with SHA-256. A key's id is derived from the key, so two records, or one before and after renewal,
share nothing that a reader of the store could compare.
"""

import hashlib
import hmac
from typing import NoReturn

from edge_stscq.errors import EdgeError

SALT_BYTES = 32
KEY_BYTES = 32
KEY_ID_BYTES = 8
TAG_BYTES = 7
"""So a template of the scheme for use has 64 bytes; a forger who cannot try offline has one chance in 2^56 a try."""
_RECORD, _ID, _STREAM = b"edge-stscq record key", b"edge-stscq key id", b"edge-stscq draws\n"
_TAG = b"edge-stscq template tag"


def hkdf(secret: bytes, salt: bytes, info: bytes, size: int) -> bytes:
    """HKDF-SHA-256 (RFC 5869): `size` bytes, at most 8,160, from a secret, a salt and a purpose."""
    extracted = hmac.digest(salt, secret, "sha256")
    made, block = b"", b""
    for number in range(1, -(-size // 32) + 1):
        block = hmac.digest(extracted, block + info + bytes([number]), "sha256")
        made += block
    return made[:size]


class RecordKey:
    """The key of one record. Nothing that prints it shows more than its id.

    Args:
        key: 32 bytes.

    Attributes:
        id: 8 bytes, stands in the template.

    Raises:
        EdgeError: a key has 32 bytes.

    Example:
        >>> key = RecordKey.derive(secret, salt)
        >>> template = scheme.enroll(embedding, key)
    """

    __slots__ = ("_key", "id")

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise EdgeError(f"a record key has {KEY_BYTES} bytes, not {len(key)}")
        self._key = key
        self.id = hkdf(key, b"", _ID, KEY_ID_BYTES)

    @classmethod
    def derive(cls, secret: bytes, salt: bytes, record: str = "") -> "RecordKey":
        """The key of the record that has this salt.

        Args:
            salt: 32 random bytes, of this record alone.
            record: name, so that the salt of one record is no key of another.

        Raises:
            EdgeError: a salt has 32 bytes.
        """
        if len(salt) != SALT_BYTES:
            raise EdgeError(f"a salt has {SALT_BYTES} bytes, not {len(salt)}")
        return cls(hkdf(secret, salt, _RECORD + (b"\n" + record.encode() if record else b""), KEY_BYTES))

    def stream(self, purpose: str, size: int) -> bytes:
        """`size` pseudorandom bytes (SHAKE-256), others for every purpose."""
        return hashlib.shake_256(_STREAM + self._key + purpose.encode()).digest(size)

    def tag(self, data: bytes) -> bytes:
        """HMAC-SHA-256 of a template without its tag, its first 7 bytes."""
        return hmac.digest(hkdf(self._key, b"", _TAG, 32), data, "sha256")[:TAG_BYTES]

    def __reduce__(self) -> NoReturn:
        raise TypeError("a record key is not written anywhere; derive it again from its salt")

    def __repr__(self) -> str:
        return f"RecordKey(id={self.id.hex()})"
