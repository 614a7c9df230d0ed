"""Signatures of bundles: ed25519 over the bytes of the manifest, in `manifest.sig` beside it.

The hashes of a manifest find damage; whoever can write to a bundle can write its manifest too. A signature says that
the holder of a key made it so. Keys are PEM files, as OpenSSL makes them:

    openssl genpkey -algorithm ed25519 -out bundles.key
    openssl pkey -in bundles.key -pubout -out bundles.pub
"""

from pathlib import Path
from typing import Any

from edge_stscq._files import write_file
from edge_stscq.bundle.manifest import MANIFEST, SIGNATURE
from edge_stscq.errors import BundleError, EdgeError, require

SIGNATURE_BYTES = 64


def sign(folder: Path, key: Path) -> Path:
    """Sign the bundle at `folder`, replacing an earlier signature; its file.

    The bundle is not verified here: open it first.

    Args:
        key: PEM file of an ed25519 private key without a password.

    Raises:
        EdgeError: the key is not one, or the bundle cannot be read or written.
        MissingExtraError: `cryptography` is not installed.
    """
    require("cryptography", "sign")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        private = load_pem_private_key(_bytes(key, "--key"), None)
    except (ValueError, TypeError) as error:
        raise EdgeError(f"--key {key} is not a private key without a password in PEM ({error})") from None
    if not isinstance(private, Ed25519PrivateKey):
        raise EdgeError(f"--key {key} is not of ed25519; make one with: openssl genpkey -algorithm ed25519")
    path = folder / SIGNATURE
    write_file(path, private.sign(_bytes(folder / MANIFEST, "the bundle")))
    return path


def is_signed(folder: Path) -> bool:
    """True if a signature lies in the bundle; whose it is, and whether it fits, only `check` knows."""
    return (folder / SIGNATURE).is_file()


def check(folder: Path, manifest: bytes, trusted_key: Path) -> None:
    """Hold the signature of a bundle against a public key.

    Args:
        manifest: the bytes of its manifest, as they are then used.
        trusted_key: PEM file of an ed25519 public key.

    Raises:
        BundleError: the bundle is not signed, or not by that key, or was changed afterwards.
        EdgeError: the key is not one.
        MissingExtraError: `cryptography` is not installed.
    """
    require("cryptography", "sign")
    from cryptography.exceptions import InvalidSignature

    public = _public_key(trusted_key)
    path = folder / SIGNATURE
    if not path.is_file():
        raise BundleError(f"{folder} is not signed; --trusted-key {trusted_key} asks for it (`edge-stscq sign`)")
    signature = _bytes(path, "the signature")
    try:
        if len(signature) != SIGNATURE_BYTES:
            raise InvalidSignature
        public.verify(signature, manifest)
    except InvalidSignature:
        raise BundleError(
            f"{folder} was not signed by {trusted_key}, or changed since; get it from its maker"
        ) from None


def _public_key(path: Path) -> Any:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        public = load_pem_public_key(_bytes(path, "--trusted-key"))
    except ValueError as error:
        raise EdgeError(f"--trusted-key {path} is not a public key in PEM ({error})") from None
    if not isinstance(public, Ed25519PublicKey):
        raise EdgeError(f"--trusted-key {path} is not of ed25519; give the signer's public key")
    return public


def _bytes(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise EdgeError(f"cannot read {what} {path}: {error.strerror}; check the path") from None
