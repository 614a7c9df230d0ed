"""`edge-stscq token`: who may use a server, and for what."""

import contextlib
import json
import os
import re
import shlex
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_stscq.cli.command import Command, with_verbosity
from edge_stscq.cli.ui import note
from edge_stscq.server.auth.audit_log import annotate_command, audit_log
from edge_stscq.server.auth.scope import Scope

if TYPE_CHECKING:
    from edge_stscq.server.auth.tokens import Token as TokenRow
    from edge_stscq.server.auth.tokens import TokenStore

_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1)}


def _lifetime(text: str | timedelta) -> timedelta:
    if isinstance(text, timedelta):  # a default is parsed, too
        return text
    found = re.fullmatch(r"([0-9]{1,5})([hd])", text)
    if found is None:
        raise typer.BadParameter("write a number of hours or days, e.g. 12h or 90d")
    return int(found[1]) * _UNITS[found[2]]


def Lifetime(help: str, default: str | bool = True) -> Any:  # noqa: N802, A002 - an option, as typer.Option is one
    """Option for a time in hours or days; `default` is what the help calls its default."""
    return typer.Option(help=help, metavar="DAYS", parser=_lifetime, show_default=default)


token = typer.Typer(help="Make, rotate, list and revoke the bearer tokens of a server.", no_args_is_help=True)

Tokens = Annotated[Path, typer.Option(help="SQLite file of the tokens; `serve` looks beside its --store.")]
AuditLog = Annotated[Path | None, typer.Option(help="Audit log; otherwise audit.jsonl beside the tokens.")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Write it here, for --token-file, instead of printing it.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@token.command("create", cls=Command)
@with_verbosity
def create(
    device: Annotated[str, typer.Option(help="Only device whose faces it may touch; '*' is every device.")],
    scope: Annotated[
        list[Scope] | None,
        typer.Option(help="What it may do; may be repeated. send if not given."),
    ] = None,
    output: Output = None,
    owner: Annotated[
        str | None, typer.Option(help="Person, or thing, that holds it, for lists and the audit log; else the device.")
    ] = None,
    expires: Annotated[timedelta | None, Lifetime("How long it holds; for ever if not given.")] = None,
    tokens: Tokens = Path("tokens.db"),
    audit: AuditLog = None,
    as_json: AsJson = False,
) -> None:
    """Make a token and print it, or write it to a file, this once: only a hash of it is kept."""
    with _open(tokens, create=True) as store, _audited(tokens, audit), _secret_file(output) as write:
        made, text = store.create(device, scope or [Scope.SEND], owner, expires)
        annotate_command("token create", made.id, made.device, " ".join(made.scopes))
        write(text + "\n")
    _show(made, text, output, as_json)


@token.command("rotate", cls=Command)
@with_verbosity
def rotate(
    token_id: Annotated[str, typer.Argument(help="The id that `token list` shows.")],
    overlap: Annotated[timedelta, Lifetime("How long the earlier one still holds.", "1d")] = timedelta(days=1),
    output: Output = None,
    tokens: Tokens = Path("tokens.db"),
    audit: AuditLog = None,
    as_json: AsJson = False,
) -> None:
    """Make a token in the place of another, which still holds for a while: the holder changes over without a gap."""
    with _open(tokens) as store, _audited(tokens, audit), _secret_file(output) as write:
        made, text = store.rotate(token_id, overlap)
        annotate_command(f"token rotate {token_id}", made.id, made.device, " ".join(made.scopes))
        write(text + "\n")
    _show(made, text, output, as_json)


def _show(made: "TokenRow", text: str, output: Path | None, as_json: bool) -> None:
    from dataclasses import asdict

    device = made.device
    if as_json:
        shown = {"token": text} if output is None else {"file": str(output)}
        typer.echo(json.dumps(shown | asdict(made)))
        return
    typer.echo(text if output is None else output)
    note(f"token {made.id} may {', '.join(made.scopes)} for device {device}; it is not shown again")
    if Scope.SEND in made.scopes:
        name, file = "NAME" if device == "*" else device, output or "FILE"
        first = "" if output else "put it into a file of its own, then "
        note(f"next: {first}edge-stscq send STREAM --device {shlex.quote(name)} --token-file {shlex.quote(str(file))}")


@contextlib.contextmanager
def _secret_file(path: Path | None) -> Iterator[Callable[[str], object]]:
    """Function that writes to a new file that its owner alone can read; the file goes away if the block fails.

    Raises:
        EdgeError: it exists or cannot be made.
    """
    from edge_stscq.errors import EdgeError

    if path is None:
        yield lambda text: None
        return
    try:
        file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w")
    except OSError as error:
        raise EdgeError(f"cannot write {path}: {error.strerror}; choose another -o") from None
    with file:
        try:
            yield file.write
        except BaseException:
            path.unlink()
            raise


@contextlib.contextmanager
def _open(path: Path, create: bool = False) -> Iterator["TokenStore"]:
    from edge_stscq.errors import EdgeError, require

    require("sqlalchemy", "server")
    from edge_stscq.server.auth.tokens import TokenStore
    from edge_stscq.server.storage.database import StoreError

    try:
        with contextlib.closing(TokenStore(path, create=create)) as store:
            yield store
    except StoreError as error:
        raise EdgeError(
            f"{path} is not usable for tokens now: {error}; try again, or choose another --tokens"
        ) from None


def _audited(tokens: Path, audit: Path | None) -> contextlib.AbstractContextManager[None]:
    return audit_log(audit or tokens.with_name("audit.jsonl"))


@token.command("list", cls=Command)
@with_verbosity
def show(tokens: Tokens = Path("tokens.db"), as_json: AsJson = False) -> None:
    """List every token ever made, without its secret."""
    from dataclasses import asdict

    from rich import box
    from rich.console import Console
    from rich.table import Column, Table

    with _open(tokens) as store:
        found = store.all()
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found]))
        return
    who = [Column(name, overflow="fold") for name in ("device", "owner", "scopes")]
    when = [Column(name, no_wrap=True) for name in ("created", "last used", "ends")]
    table = Table(Column("id", no_wrap=True), *who, *when, box=box.SIMPLE_HEAD, show_edge=False)
    for one in found:
        end = f"revoked\n{one.revoked[:10]}" if one.revoked else (one.expires or "-")[:10]
        table.add_row(one.id, one.device, one.owner, " ".join(one.scopes), one.created[:10], one.used or "-", end)
    Console().print(table)


@token.command("revoke", cls=Command)
@with_verbosity
def revoke(
    token_id: Annotated[str, typer.Argument(help="The id that `token list` shows.")],
    tokens: Tokens = Path("tokens.db"),
    audit: AuditLog = None,
    as_json: AsJson = False,
) -> None:
    """Make a token invalid for good; a running server refuses it from the next request on."""
    from dataclasses import asdict

    with _open(tokens) as store, _audited(tokens, audit):
        gone = store.revoke(token_id)
        annotate_command("token revoke", gone.id, gone.device, " ".join(gone.scopes))
    typer.echo(json.dumps(asdict(gone)) if as_json else f"token {gone.id} of device {gone.device} is revoked")
