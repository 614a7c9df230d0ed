"""Sealed texts open by their key, in their place, unchanged; and by nothing else."""

import pickle
import secrets

import pytest

from edge_stscq.errors import EdgeError
from edge_stscq.sealing.cipher import OVERHEAD, Cipher, UnreadableError, derived, new_key
from edge_stscq.sealing.spool_seal import SpoolSeal

SECRET = b"0123456789abcdef0123456789abcdef"


def test_seal_and_open() -> None:
    cipher = Cipher(new_key())
    for text in (b"", b"face", bytes(16383)):
        sealed = cipher.seal(text, b"here")
        assert len(sealed) == len(text) + OVERHEAD
        assert cipher.open(sealed, b"here") == text
    assert cipher.seal(b"face", b"") != cipher.seal(b"face", b"")


def test_open_refuses_every_change() -> None:
    cipher = Cipher(new_key())
    sealed = cipher.seal(b"face", b"here")
    changed = [sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :] for at in range(len(sealed))]
    for wrong in (*changed, *(sealed[:size] for size in range(len(sealed))), sealed + b"\0"):
        with pytest.raises(UnreadableError):
            cipher.open(wrong, b"here")
    with pytest.raises(UnreadableError):
        cipher.open(sealed, b"there")
    with pytest.raises(UnreadableError):
        Cipher(new_key()).open(sealed, b"here")


def test_key_is_not_shown_or_written() -> None:
    key = new_key()
    cipher = Cipher(key)
    assert key.hex() not in repr(cipher)
    assert repr(key) not in repr(cipher)
    with pytest.raises(TypeError):
        pickle.dumps(cipher)


def test_key_of_another_size_is_refused() -> None:
    with pytest.raises(EdgeError, match="32 bytes"):
        Cipher(bytes(16))


def test_derived_depends_on_secret_salt_and_purpose() -> None:
    salt = secrets.token_bytes(32)
    ciphers = [derived(secret, of, purpose) for secret, of, purpose in (
        (SECRET, salt, b"a"), (SECRET[::-1], salt, b"a"), (SECRET, salt[::-1], b"a"), (SECRET, salt, b"b")
    )]  # fmt: skip
    assert len({verifier for _, verifier in ciphers}) == 4
    sealed = ciphers[0][0].seal(b"face", b"")
    assert derived(SECRET, salt, b"a")[0].open(sealed, b"") == b"face"
    for cipher, _ in ciphers[1:]:
        with pytest.raises(UnreadableError):
            cipher.open(sealed, b"")


def test_spool_frame_opens_in_its_place_alone() -> None:
    seal, stream = SpoolSeal(SECRET, bytes(32)), bytes(16)
    sealed = seal.seal(b"frame", stream, 7, 5.5, "basics")
    assert seal.open(sealed, stream, 7, 5.5, "basics") == b"frame"
    for place in ((bytes([1] * 16), 7, 5.5, "basics"), (stream, 8, 5.5, "basics"), (stream, 7, None, "basics"),
                  (stream, 7, 5.5, "further")):  # fmt: skip
        with pytest.raises(UnreadableError):
            seal.open(sealed, *place)
