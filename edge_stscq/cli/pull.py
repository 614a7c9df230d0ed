"""`edge-stscq pull`: a released model or bundle, by name."""

import json
from pathlib import Path
from typing import Annotated

import typer

from edge_stscq.cli.options import BUNDLE, MODEL, AsJson, Ca, Cert, Key
from edge_stscq.cli.ui import note, progress_bar


def pull(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help=f"e.g. {MODEL} or {BUNDLE}. Otherwise all are listed.")
    ] = None,
    place: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="URL|DIR", envvar="EDGE_STSCQ_MODELS", help="Address or folder that holds the files."
        ),
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep it here; otherwise in the user's cache.")
    ] = None,
    cert: Cert = None,
    key: Key = None,
    ca: Ca = None,
    as_json: AsJson = False,
) -> None:
    """Fetch a released model or bundle, verify every byte and keep it; print its folder.

    A transfer that was cut goes on where it stopped. The index of what is released is in this program and says what
    each file must be, so that it does not matter who offers them.
    """
    from edge_stscq._tls import client_context
    from edge_stscq.hub import load_index
    from edge_stscq.hub.names import find_here
    from edge_stscq.hub.transfer import pull as fetch

    if name is None:
        _list(as_json)
        return
    release = load_index().find(name)
    tls = client_context(cert, key, ca)
    there = find_here(name, release) if cache is None and place is None else None
    if there is None:
        with progress_bar(name, release.size, bytes_=True) as progress:
            there = fetch(name, place, cache=cache, tls=tls, progress=progress)
    if as_json:
        report = {"name": name, "folder": str(there), "files": len(release.files), "bytes": release.size}
        typer.echo(json.dumps(report))
        return
    typer.echo(there)
    option, word = "--bundle" if ":" in name else "--model", name if cache is None else there
    note(f"{release.size:,} bytes; use it as: {option} {word}")


def _list(as_json: bool) -> None:
    from edge_stscq.hub import load_index
    from edge_stscq.hub.names import find_here

    rows = []
    for name, release in load_index().releases.items():
        here = find_here(name, release)
        rows.append({"name": name, "bytes": release.size, "folder": None if here is None else str(here)})
    if as_json:
        typer.echo(json.dumps(rows))
        return
    for row in rows:
        typer.echo(f"{row['name']}: {row['bytes']:,} bytes, {row['folder'] or 'not here'}")
