"""AES-256-GCM with random nonces, under a random key or one that is derived from a secret.

A sealed text is nonce (12 bytes), ciphertext and tag (16 bytes). What it is about - whose it is, its number, its time -
is authenticated with it, so that it cannot be moved to another place unseen. NIST SP 800-38D bounds a key with random
nonces to 2**32 texts; a data key seals a handful, and a master key one data key a face.
"""

import os
import secrets
from typing import Any, NoReturn

from edge_stscq.errors import EdgeError, MissingExtraError

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF
except ImportError as error:
    raise MissingExtraError("sealing needs cryptography; run: pip install 'edge-stscq[seal]'") from error

KEY_BYTES, NONCE_BYTES, TAG_BYTES, SALT_BYTES = 32, 12, 16, 32
OVERHEAD = NONCE_BYTES + TAG_BYTES
"""Bytes by which a sealed text is longer."""
VERIFIER_BYTES = 16


class UnreadableError(EdgeError):
    """A sealed text is not as it was sealed: another key, another place, or damage."""


class Cipher:
    """One key. Nothing that prints it shows it, and it is not pickled.

    Args:
        key: 32 bytes.

    Example:
        >>> cipher = Cipher(new_key())
        >>> cipher.open(cipher.seal(b"face", b"door-1-42"), b"door-1-42")
        b'face'
    """

    __slots__ = ("_aead",)

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise EdgeError(f"a key has {KEY_BYTES} bytes, not {len(key)}")
        self._aead: Any = AESGCM(key)

    def seal(self, text: bytes, about: bytes) -> bytes:
        """Seal a text with what it is about; the text is `OVERHEAD` bytes longer then."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + bytes(self._aead.encrypt(nonce, text, about))

    def open(self, sealed: bytes, about: bytes) -> bytes:
        """The text that was sealed.

        Raises:
            UnreadableError: it was not sealed by this key, for this place, or is damaged.
        """
        try:
            return bytes(self._aead.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], about))
        except (InvalidTag, ValueError):
            raise UnreadableError("it is not as it was sealed") from None

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is not written anywhere")


def new_key() -> bytes:
    """A random key, 32 bytes."""
    return secrets.token_bytes(KEY_BYTES)


def derived(secret: bytes, salt: bytes, purpose: bytes) -> tuple[Cipher, bytes]:
    """The key that a secret has for a salt and a purpose (HKDF-SHA-256, RFC 5869), and what a right secret is told by.

    Returns:
        Cipher, and a verifier of 16 bytes that may be stored: it tells nothing of the key.
    """
    key, verifier = (
        HKDF(hashes.SHA256(), size, salt, b"edge-stscq " + purpose + what).derive(secret)
        for size, what in ((KEY_BYTES, b" key"), (VERIFIER_BYTES, b" verifier"))
    )
    return Cipher(key), verifier
