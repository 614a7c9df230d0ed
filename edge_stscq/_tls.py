"""TLS by PEM files, for both ends: checked before anything is sent or served."""

import ssl
from pathlib import Path
from typing import Any

from edge_stscq.errors import EdgeError


def client_context(cert: Path | None, key: Path | None, ca: Path | None) -> ssl.SSLContext | None:
    """TLS context of a device; None for no files: the authorities that this machine trusts, and no certificate.

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
    _check_readable({"--cert": cert, "--key": key, "--ca": ca})
    try:
        context = ssl.create_default_context(cafile=ca)
    except ssl.SSLError as error:
        raise _no_certificate("--ca", ca, error) from None
    if cert is not None and key is not None:
        _load_pair(context, cert, key, "--key")
    return context


def server_arguments(cert: Path | None, key: Path | None, client_ca: Path | None) -> dict[str, Any]:
    """Arguments of `uvicorn.Config` for these PEM files; none for no files.

    Args:
        cert: the server's certificate, followed by those between it and its authority.
        key: its private key, not encrypted.
        client_ca: authorities of which every client must show a certificate (mutual TLS).

    Raises:
        EdgeError: one file without the other, or one that cannot be read or used.
    """
    if cert is None or key is None:
        if cert is None and key is None and client_ca is None:
            return {}
        raise EdgeError("TLS needs a certificate and its key; give both --tls-cert and --tls-key")
    _check_readable({"--tls-cert": cert, "--tls-key": key, "--tls-client-ca": client_ca})
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load_pair(context, cert, key, "--tls-key")
    if client_ca is None:
        return {"ssl_certfile": cert, "ssl_keyfile": key}
    try:
        context.load_verify_locations(client_ca)
    except ssl.SSLError as error:
        raise _no_certificate("--tls-client-ca", client_ca, error) from None
    return {
        "ssl_certfile": cert, "ssl_keyfile": key, "ssl_ca_certs": client_ca, "ssl_cert_reqs": ssl.CERT_REQUIRED,
    }  # fmt: skip


def _check_readable(options: dict[str, Path | None]) -> None:
    for option, path in options.items():
        if path is not None:
            try:
                path.open("rb").close()
            except OSError as error:
                raise EdgeError(f"cannot read {option} {path}: {error.strerror}; name a PEM file") from None


def _load_pair(context: ssl.SSLContext, cert: Path, key: Path, option: str) -> None:
    def refuse_encrypted() -> str:
        raise EdgeError(f"{option} {key} is encrypted; give it without a password, readable by this program alone")

    try:
        context.load_cert_chain(cert, key, password=refuse_encrypted)
    except ssl.SSLError as error:
        raise EdgeError(f"{cert} and {key} are not a PEM certificate and its key: {_reason(error)}") from None


def _no_certificate(option: str, path: Path | None, error: ssl.SSLError) -> EdgeError:
    return EdgeError(f"{option} {path} has no PEM certificate: {_reason(error)}; copy it from its authority again")


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()
