"""TLS by certificate files, checked before the server starts."""

import ssl
from pathlib import Path
from typing import Any

from edge_stscq.errors import EdgeError


def tls_arguments(cert: Path | None, key: Path | None, client_ca: Path | None) -> dict[str, Any]:
    """Arguments of `uvicorn.Config` for these PEM files; nothing for none.

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
    for option, path in (("--tls-cert", cert), ("--tls-key", key), ("--tls-client-ca", client_ca)):
        if path is not None:
            _check_readable(option, path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key, password=lambda: _refuse_encrypted(key))
    except ssl.SSLError as error:
        raise EdgeError(f"{cert} and {key} are not a PEM certificate and its key: {_reason(error)}") from None
    if client_ca is None:
        return {"ssl_certfile": cert, "ssl_keyfile": key}
    try:
        context.load_verify_locations(client_ca)
    except ssl.SSLError as error:
        raise EdgeError(f"--tls-client-ca {client_ca} has no PEM certificate: {_reason(error)}") from None
    return {
        "ssl_certfile": cert, "ssl_keyfile": key, "ssl_ca_certs": client_ca, "ssl_cert_reqs": ssl.CERT_REQUIRED,
    }  # fmt: skip


def _check_readable(option: str, path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise EdgeError(f"cannot read {option} {path}: {error.strerror}; name a PEM file") from None


def _refuse_encrypted(key: Path) -> str:
    raise EdgeError(f"--tls-key {key} is encrypted; give it without a password, readable by the server alone")


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()
