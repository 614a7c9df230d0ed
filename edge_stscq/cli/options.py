"""Options that mean the same in every command, and the types of their values."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_stscq import _released

if TYPE_CHECKING:
    import ssl

MODEL = Path(_released.MODEL)
BUNDLE = Path(_released.BUNDLE)
"""The released model and the bundle of it that runs everywhere, by name."""


def folder(word: str | Path) -> Path:
    """A folder, or the one of a released model or bundle by its name (`edge_stscq.hub`)."""
    from edge_stscq.cli.ui import note
    from edge_stscq.hub import resolve

    return resolve(word, lambda name: note(f"fetching {name}"))


FOLDER = "FOLDER|NAME"

Model = Annotated[
    Path, typer.Option(parser=folder, metavar=FOLDER, help="Model folder, or the name of a released model.")
]
BundleOption = Annotated[
    Path,
    typer.Option("--bundle", parser=folder, metavar=FOLDER, help="Bundle folder, or the name of a released bundle."),
]
BundleArgument = Annotated[
    Path, typer.Argument(metavar="BUNDLE", parser=folder, help="Bundle folder, or the name of a released bundle.")
]
TrustedKey = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Public key in PEM; a bundle that it did not sign is refused."),
]
Url = Annotated[str, typer.Option(help="Address of the server.")]
Token = Annotated[
    str | None, typer.Option(envvar="EDGE_STSCQ_TOKEN", help="Bearer token; that of a server of this machine is found.")
]
TokenFile = Annotated[Path | None, typer.Option(metavar="FILE", help="File with the bearer token, alone.")]
Cert = Annotated[Path | None, typer.Option(metavar="FILE", help="Mutual TLS: PEM certificate of this device.")]
Key = Annotated[Path | None, typer.Option(metavar="FILE", help="PEM key of the certificate, without a password.")]
Ca = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="PEM authorities that the server's certificate is checked against."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]


def connection(
    token: str | None, token_file: Path | None, cert: Path | None, key: Path | None, ca: Path | None
) -> "tuple[str | None, ssl.SSLContext | None]":
    """Bearer token and TLS context that the options of a connection ask for.

    Raises:
        EdgeError: two tokens, or a file that cannot be read or used.
    """
    from edge_stscq._tls import client_context
    from edge_stscq.errors import EdgeError

    if token is not None and token_file is not None:
        raise EdgeError("two tokens; give --token (or EDGE_STSCQ_TOKEN) or --token-file")
    if token_file is not None:
        try:
            token = token_file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise EdgeError(
                f"cannot read a token from --token-file {token_file}: {error}; put it there, alone"
            ) from None
    return token, client_context(cert, key, ca)
