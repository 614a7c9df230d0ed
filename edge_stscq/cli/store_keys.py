"""`edge-stscq store seal`, `rotate`, `backup-keys` and `restore-keys`: a store sealed, and what its keys need."""

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from edge_stscq.cli.command import Command, with_verbosity
from edge_stscq.cli.store import AsJson, SealKeys, Store, store
from edge_stscq.cli.ui import count, note, progress_bar

Source = Annotated[
    str,
    typer.Option(
        "--seal", envvar="EDGE_STSCQ_SEAL", metavar="SOURCE",
        help="The store's secret, as file:PATH, command:PROGRAM or keyring:SERVICE/USER.",
    ),
]  # fmt: skip
_PERIOD = re.compile(r"([1-9][0-9]{0,4})d")


@store.command("seal", cls=Command)
@with_verbosity
def seal(
    source: Source, place: Store = "faces.db", seal_keys: SealKeys = None,
    new_secret: Annotated[bool, typer.Option(help="Make the file of --seal file:PATH, with a fresh secret.")] = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Encrypt all faces of a store, each under a key of its own, or make a sealed store.

    Cut off, it goes on when it is run again. Servers take nothing more meanwhile; start them again with --seal.
    """
    from edge_stscq._secrets import read_secret, write_new_secret
    from edge_stscq.errors import EdgeError
    from edge_stscq.server.sealing.conversion import seal_store
    from edge_stscq.server.sealing.face_seal import key_path
    from edge_stscq.server.storage.database import StoreError

    if new_secret:
        kind, _, path = source.partition(":")
        if kind != "file" or not path:
            raise EdgeError("--new-secret writes a file; give --seal file:PATH")
        write_new_secret(Path(path))
    keys = key_path(seal_keys, place)
    try:
        with progress_bar("sealing", None) as progress:
            faces = seal_store(place, keys, read_secret(source), progress)
    except StoreError as error:
        raise EdgeError(f"the store failed: {error}; run this again, it goes on where it was") from None
    if as_json:
        typer.echo(json.dumps({"faces": faces, "keys": str(keys)}))
        return
    typer.echo(f"{count(faces, 'face')} sealed; the keys are in {keys}")
    note("next: edge-stscq serve --seal ..., and copy the keys elsewhere: edge-stscq store backup-keys -o FOLDER")
    note("backups, and files that repair or restore moved aside, are as they were: remove those in the clear")


@store.command("rotate", cls=Command)
@with_verbosity
def rotate(
    source: Source,
    new: Annotated[str, typer.Option("--new-seal", metavar="SOURCE", help="The new secret, as for --seal.")],
    place: Store = "faces.db", seal_keys: SealKeys = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Wrap all keys of a sealed store anew, under a master key of another secret.

    Cut off, it goes on when it is run again with the same two. Servers answer 503 until they are started again with
    the new secret.
    """
    from edge_stscq._secrets import read_secret
    from edge_stscq.errors import EdgeError
    from edge_stscq.server.sealing import key_file
    from edge_stscq.server.sealing.face_seal import key_path
    from edge_stscq.server.storage.database import StoreError

    keys = key_path(seal_keys, place)
    try:
        with progress_bar("keys", None) as progress:
            done = key_file.rotate(keys, read_secret(source), read_secret(new), progress)
    except StoreError as error:
        raise EdgeError(f"{keys} failed: {error}; run this again, it goes on where it was") from None
    if as_json:
        typer.echo(json.dumps({"keys": done, "file": str(keys)}))
        return
    typer.echo(f"{count(done, 'key')} wrapped anew in {keys}")
    note("next: start the servers again with the new secret; copies of the key file still hang on the old one")


@store.command("backup-keys", cls=Command)
@with_verbosity
def backup_keys(
    source: Source,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the copies; never that of the store's.")],
    keep: Annotated[str, typer.Option(metavar="DAYS", help="Remove copies that are older, e.g. 30d.")] = "30d",
    place: Store = "faces.db", seal_keys: SealKeys = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Copy the keys of a sealed store, and remove copies that are too old: they open what was erased since."""
    from dataclasses import asdict

    from edge_stscq._secrets import read_secret
    from edge_stscq.errors import EdgeError
    from edge_stscq.server.sealing import key_copies
    from edge_stscq.server.sealing.face_seal import key_path

    period = _PERIOD.fullmatch(keep)
    if period is None:
        raise EdgeError(f"{keep!r} is no number of days; write 30d")
    done = key_copies.backup_keys(key_path(seal_keys, place), read_secret(source), output, int(period[1]))
    if as_json:
        typer.echo(json.dumps(asdict(done)))
        return
    typer.echo(f"{done.backup}: {count(done.keys, 'key')}; older copies removed: {len(done.removed)}")
    note(f"an erased face can be read with a copy of the store and one of its keys for {keep} more, not longer")


@store.command("restore-keys", cls=Command)
@with_verbosity
def restore_keys(
    copy: Annotated[Path, typer.Argument(metavar="COPY", help="File that `store backup-keys` made.")],
    source: Source, place: Store = "faces.db", seal_keys: SealKeys = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Put a copy of the keys in the place of a key file that is lost. Keys of what was erased since go at once."""
    from dataclasses import asdict

    from edge_stscq._secrets import read_secret
    from edge_stscq.server.sealing import key_copies
    from edge_stscq.server.sealing.face_seal import key_path

    done = key_copies.restore_keys(copy, key_path(seal_keys, place), read_secret(source), place)
    if as_json:
        typer.echo(json.dumps(asdict(done)))
        return
    typer.echo(f"{done.file}: {count(done.keys, 'key')}; {done.erased} of the copy were of what was erased since")
    if done.moved is not None:
        note(f"the file that was there is {done.moved}; remove it when you have seen that all is well")
    note("faces that came after the copy have no key; see: edge-stscq store check")
