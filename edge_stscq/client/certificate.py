"""What a device trusts and shows when it speaks TLS: files in PEM, checked before anything is sent."""

import ssl
from pathlib import Path

from edge_stscq.errors import EdgeError


def tls_context(cert: Path | None, key: Path | None, ca: Path | None) -> ssl.SSLContext | None:
    """How to speak TLS with these files; None for none: the authorities that this machine trusts, and no certificate.

    Args:
        cert: the device's certificate (mutual TLS), followed by those between it and its authority.
        key: its private key, not encrypted.
        ca: authorities of which the server must show a certificate, instead of those that this machine trusts.

    Raises:
        EdgeError: one of certificate and key without the other, or a file that cannot be read or used.
    """
    if (cert is None) != (key is None):
        raise EdgeError("a certificate is shown with its key; give both --cert and --key")
    if cert is None and ca is None:
        return None
    for option, path in (("--cert", cert), ("--key", key), ("--ca", ca)):
        _check_readable(option, path)
    try:
        context = ssl.create_default_context(cafile=ca)
    except ssl.SSLError:
        raise EdgeError(f"--ca {ca} has no PEM certificate; copy it from the server again") from None
    if cert is not None and key is not None:
        try:
            context.load_cert_chain(cert, key, password=lambda: _refuse_encrypted(key))
        except ssl.SSLError as error:
            reason = (error.reason or str(error)).replace("_", " ").lower()
            raise EdgeError(f"{cert} and {key} are not a PEM certificate and its key: {reason}") from None
    return context


def _check_readable(option: str, path: Path | None) -> None:
    if path is not None:
        try:
            path.open("rb").close()
        except OSError as error:
            raise EdgeError(f"cannot read {option} {path}: {error.strerror}; name a PEM file") from None


def _refuse_encrypted(key: Path) -> str:
    raise EdgeError(f"--key {key} is encrypted; give it without a password, readable by this program alone")
