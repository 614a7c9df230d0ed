"""HKDF as RFC 5869 has it, and keys that show nothing."""

import pickle

import pytest

from edge_stscq.errors import EdgeError
from edge_stscq.privacy import RecordKey
from edge_stscq.privacy.keys import hkdf


@pytest.mark.parametrize(("secret", "salt", "info", "size", "expected"), [
    (b"\x0b" * 22, bytes(range(13)), bytes(range(0xF0, 0xFA)), 42,
     "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"),
    (b"\x0b" * 22, b"", b"", 42,
     "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"),
    (bytes(range(0x50)), bytes(range(0x60, 0xB0)), bytes(range(0xB0, 0x100)), 82,
     "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09da3275600c2f09b836"
     "7793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87"),
])  # fmt: skip
def test_hkdf_gives_the_vectors_of_rfc_5869(secret: bytes, salt: bytes, info: bytes, size: int, expected: str) -> None:
    assert hkdf(secret, salt, info, size).hex() == expected


def test_key_depends_on_secret_and_salt() -> None:
    ids = {RecordKey.derive(secret, salt).id for secret in (b"a" * 32, b"b" * 32) for salt in (bytes(32), b"\1" * 32)}
    assert len(ids) == 4
    assert RecordKey.derive(b"a" * 32, bytes(32)).id in ids


def test_streams_of_two_purposes_differ() -> None:
    key = RecordKey(bytes(32))
    assert key.stream("a", 64) != key.stream("b", 64)
    assert key.stream("a", 64)[:32] == key.stream("a", 32)


def test_printed_key_shows_its_id_alone() -> None:
    key = RecordKey(b"secretsecretsecretsecretsecretse")
    assert repr(key) == str(key) == f"RecordKey(id={key.id.hex()})"


def test_key_is_not_pickled() -> None:
    with pytest.raises(TypeError, match="a record key is not written"):
        pickle.dumps(RecordKey(bytes(32)))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_wrong_sizes_are_refused(size: int) -> None:
    with pytest.raises(EdgeError, match="has 32 bytes"):
        RecordKey(bytes(size))
    with pytest.raises(EdgeError, match="a salt has 32 bytes"):
        RecordKey.derive(b"a" * 32, bytes(size))
