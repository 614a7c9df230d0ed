"""Signed bundles: who made one, and what is refused."""

from pathlib import Path

import pytest

from edge_stscq.bundle import open_bundle
from edge_stscq.bundle.manifest import MANIFEST, SIGNATURE, Manifest
from edge_stscq.bundle.signature import sign
from edge_stscq.errors import BundleError, EdgeError
from tests.support.installed import need_module

need_module("cryptography", "pip install 'edge-stscq[sign]'")

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key  # noqa: E402
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: E402
from cryptography.hazmat.primitives.serialization import (  # noqa: E402
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)


def write_pair(
    folder: Path,
    name: str,
    private: Ed25519PrivateKey | EllipticCurvePrivateKey | None = None,
    password: bytes | None = None,
) -> tuple[Path, Path]:
    """Private and public key file."""
    private = private or Ed25519PrivateKey.generate()
    closed = NoEncryption() if password is None else BestAvailableEncryption(password)
    key, pub = folder / f"{name}.key", folder / f"{name}.pub"
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, closed))
    pub.write_bytes(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return key, pub


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return write_pair(tmp_path, "maker")


def test_a_signed_bundle_opens_with_and_without_the_key(sums_bundle: Path, keys: tuple[Path, Path]) -> None:
    assert not open_bundle(sums_bundle).signed
    sign(sums_bundle, keys[0])
    assert open_bundle(sums_bundle).signed
    assert open_bundle(sums_bundle, keys[1]).signed


def test_an_unsigned_bundle_is_refused_where_a_key_is_trusted(sums_bundle: Path, keys: tuple[Path, Path]) -> None:
    with pytest.raises(BundleError, match="is not signed; --trusted-key"):
        open_bundle(sums_bundle, keys[1])


def test_another_signer_is_refused(sums_bundle: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    sign(sums_bundle, write_pair(tmp_path, "other")[0])
    with pytest.raises(BundleError, match="was not signed by"):
        open_bundle(sums_bundle, keys[1])


def test_a_manifest_made_anew_needs_a_new_signature(sums_bundle: Path, keys: tuple[Path, Path]) -> None:
    sign(sums_bundle, keys[0])
    Manifest.load(sums_bundle).model_copy(update={"name": "other"}).save(sums_bundle)
    open_bundle(sums_bundle)
    with pytest.raises(BundleError, match="changed since"):
        open_bundle(sums_bundle, keys[1])
    sign(sums_bundle, keys[0])
    open_bundle(sums_bundle, keys[1])


@pytest.mark.parametrize("damage", [b"", b"\0" * 64, b"\0" * 63, b"\0" * 65])
def test_a_damaged_signature_is_refused(sums_bundle: Path, keys: tuple[Path, Path], damage: bytes) -> None:
    sign(sums_bundle, keys[0])
    (sums_bundle / SIGNATURE).write_bytes(damage)
    with pytest.raises(BundleError, match="was not signed by"):
        open_bundle(sums_bundle, keys[1])


def test_a_key_of_another_kind_is_said_to_be_one(sums_bundle: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    elliptic = write_pair(tmp_path, "elliptic", generate_private_key(SECP256R1()))
    closed, _ = write_pair(tmp_path, "closed", password=b"word")
    for key in (elliptic[0], closed, keys[1], tmp_path / "absent", sums_bundle / MANIFEST):
        with pytest.raises(EdgeError, match="key"):
            sign(sums_bundle, key)
        assert not (sums_bundle / SIGNATURE).exists()
    sign(sums_bundle, keys[0])
    for pub in (elliptic[1], keys[0], tmp_path / "absent", sums_bundle / MANIFEST):
        with pytest.raises(EdgeError, match="--trusted-key"):
            open_bundle(sums_bundle, pub)
