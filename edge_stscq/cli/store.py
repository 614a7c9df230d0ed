"""`edge-stscq store`: faces of a server checked, repaired, copied, exported and erased."""

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_stscq.cli.command import Command, with_verbosity
from edge_stscq.cli.options import FOLDER, MODEL, folder
from edge_stscq.cli.ui import count, note, progress_bar

if TYPE_CHECKING:
    from edge_stscq.codec.model import Codec
    from edge_stscq.server.decoding.catalog import CatalogEntry, ModelCatalog
    from edge_stscq.server.maintenance.selection import Selection
    from edge_stscq.server.sealing.face_seal import FaceSeal
    from edge_stscq.server.storage.face_store import StoredFace
    from edge_stscq.server.storage.sql_face_store import SqlFaceStore
    from edge_stscq.stream import CodedFace

store = typer.Typer(help="Check, repair, back up, export and erase the faces of a server.", no_args_is_help=True)

Store = Annotated[
    str, typer.Option("--store", envvar="EDGE_STSCQ_STORE", help="SQLite file or URL of the store, as for `serve`.")
]
File = Annotated[
    Path,
    typer.Option("--store", envvar="EDGE_STSCQ_STORE", help="SQLite file of the store; no server may have it open."),
]
Audit = Annotated[Path | None, typer.Option(help="Audit log; otherwise audit.jsonl beside the store.")]
Seal = Annotated[
    str | None,
    typer.Option(
        envvar="EDGE_STSCQ_SEAL",
        metavar="SOURCE",
        help="Of a sealed store: its secret, as file:PATH, command:PROGRAM or keyring:SERVICE/USER.",
    ),
]
SealKeys = Annotated[
    Path | None,
    typer.Option(envvar="EDGE_STSCQ_SEAL_KEYS", help="Of a sealed store: its key file; otherwise keys.db beside it."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Ids = Annotated[list[str] | None, typer.Argument(metavar="[FACE]...", help="Ids of faces.")]
Stream = Annotated[str | None, typer.Option(help="Faces of this stream, by its id.")]
Device = Annotated[str | None, typer.Option(help="Faces of this device.")]
Since = Annotated[
    datetime | None, typer.Option(help="Faces captured from then on, local time, e.g. 2026-01-31T12:00:00.")
]
Until = Annotated[datetime | None, typer.Option(help="Faces captured before then.")]
Like = Annotated[
    str | None,
    typer.Option(
        "--match",
        metavar="FACE",
        help="Faces of the person of this face, by --min-cosine: its id, or a file whose first face it is.",
    ),
]
MinCosine = Annotated[
    float, typer.Option(min=-1, max=1, help="With --match: least likeness; docs/gallery.md says what it means.")
]
Model = Annotated[
    list[Path] | None,
    typer.Option("--model", parser=folder, metavar=FOLDER, help=f"Models of the faces. {MODEL} if none is given."),
]

_SHOWN = 20
"""Faces that a preview lists."""


@store.command("check", cls=Command)
@with_verbosity
def check(place: Store = "faces.db", seal: Seal = None, seal_keys: SealKeys = None, as_json: AsJson = False) -> None:
    """Read every face and hold it against its checksum. Exit code 1: something is damaged."""
    from dataclasses import asdict

    from edge_stscq.errors import EXIT_CHECK_FAILED
    from edge_stscq.server.maintenance.inspection import inspect_store

    with progress_bar("reading", None) as progress:
        found = inspect_store(place, progress, store_seal(seal, seal_keys, place))
    if as_json:
        typer.echo(json.dumps({**asdict(found), "whole": found.whole}))
    else:
        for line in [*found.problems, *(one.reason for one in found.damaged), *map(_keyless, found.keyless)]:
            typer.echo(line)
        damaged = f", {len(found.damaged)} damaged" if found.damaged else ""
        keyless = f", {len(found.keyless)} without a key" if found.keyless else ""
        typer.echo(f"{found.store}: {count(found.faces, 'face')} whole{damaged}{keyless}, {found.erased} erased")
        if (found.damaged or found.problems) and "://" not in place:
            note(f"next: stop the server, then edge-stscq store repair --store {place}")
        elif found.problems:
            note(f"next: edge-stscq store repair --store {found.store}")
    if not found.whole:
        raise typer.Exit(EXIT_CHECK_FAILED)


@store.command("repair", cls=Command)
@with_verbosity
def repair(place: Store = "faces.db", seal: Seal = None, seal_keys: SealKeys = None, as_json: AsJson = False) -> None:
    """Write what is whole into a new file in its place, with no server beside; the old one is kept under another name.

    In PostgreSQL, count the faces of every device anew: rows are mended by its own tools.
    """
    from dataclasses import asdict

    from edge_stscq.server.maintenance.inspection import repair_store
    from edge_stscq.server.storage.database import sqlite_path, store_url

    path = sqlite_path(store_url(place))
    if path is None:
        with _opened(place, seal, seal_keys) as opened:
            wrong = opened.recount()
            name = opened.name
        typer.echo(
            json.dumps({"store": name, "recounted": wrong})
            if as_json
            else f"{name}: {count(len(wrong), 'device')} counted anew{': ' if wrong else ''}{', '.join(wrong)}"
        )
        return
    with progress_bar("reading", None) as progress:
        done = repair_store(path, progress, store_seal(seal, seal_keys, path))
    if as_json:
        typer.echo(json.dumps(asdict(done)))
        return
    for one in done.lost:
        typer.echo(f"lost: {one.id}: {one.reason}")
    if done.unnamed:
        typer.echo(f"lost: {count(done.unnamed, 'face')} that nothing names any more")
    lost = len(done.lost) + done.unnamed
    typer.echo(f"{done.store}: {count(done.kept, 'face')} kept, {lost} lost; the old file is {done.moved}")
    if lost:
        note("a face that its camera still has comes back with its next drain; a backup may have the others")


@store.command("backup", cls=Command)
@with_verbosity
def backup(
    output: Annotated[Path, typer.Option("--output", "-o", help="New file.")],
    place: Store = "faces.db",
    seal: Seal = None,
    seal_keys: SealKeys = None,
    as_json: AsJson = False,
) -> None:
    """Copy a store as it is at one moment, while servers use it, and check the copy."""
    from edge_stscq.server.maintenance.backup import backup_store

    key = store_seal(seal, seal_keys, place)
    faces = backup_store(place, output, key)
    if as_json:
        typer.echo(json.dumps({"backup": str(output), "faces": faces}))
    else:
        typer.echo(f"{output}: {count(faces, 'face')}, all whole")
        if key is not None:
            note("its keys are not in it; copy them elsewhere: edge-stscq store backup-keys -o FOLDER --keep 30d")
            return
        note("it holds templates in the clear, also of faces that are erased later; tokens are a file of their own")


@store.command("restore", cls=Command)
@with_verbosity
def restore(
    copy: Annotated[Path, typer.Argument(metavar="BACKUP", help="File that `store backup` made.")],
    file: File = Path("faces.db"),
    seal: Seal = None,
    seal_keys: SealKeys = None,
    as_json: AsJson = False,
) -> None:
    """Put a backup in the place of a store. What was erased from the store since stays erased."""
    from dataclasses import asdict

    from edge_stscq.server.maintenance.backup import restore_store

    done = restore_store(copy, file, store_seal(seal, seal_keys, file))
    if as_json:
        typer.echo(json.dumps(asdict(done)))
        return
    typer.echo(f"{done.store}: {count(done.faces, 'face')}; {done.erased} of the backup had been erased, and are again")
    if done.moved is not None:
        note(f"the store that was there is {done.moved}; remove it when you have seen that all is well")


@store.command("erase", cls=Command)
@with_verbosity
def erase(
    ids: Ids = None,
    stream: Stream = None,
    device: Device = None,
    since: Since = None,
    until: Until = None,
    match: Like = None,
    min_cosine: MinCosine = 0.3,
    model: Model = None,
    place: Store = "faces.db",
    seal: Seal = None,
    seal_keys: SealKeys = None,
    yes: Yes = False,
    dry_run: Annotated[bool, typer.Option(help="Only show what would be erased.")] = False,
    audit: Audit = None,
    as_json: AsJson = False,
) -> None:
    """Erase faces for good, from the store and from the servers that have it open; late layers stay away.

    Backups, PostgreSQL's archives and spools of cameras are not reached: the answer says where to look.
    """
    from edge_stscq.errors import EdgeError
    from edge_stscq.server.auth.audit_log import annotate_faces, audit_log
    from edge_stscq.server.storage.database import sibling_path
    from edge_stscq.server.storage.face_store import FaceName

    selection = _selection(ids, stream, device, since, until)
    lasting = match is None and selection.is_all_of_a_time
    with _opened(place, seal, seal_keys) as opened:
        chosen = _chosen(opened, selection, match, min_cosine, model)
        faces = [face for face, _ in chosen]
        if not as_json or dry_run:
            _preview(chosen, as_json)
        if dry_run or not (faces or lasting):
            if as_json and not dry_run:
                typer.echo(json.dumps({"erased": 0, "devices": []}))
            return
        if not yes:
            if not sys.stdin.isatty():
                raise EdgeError(f"{count(len(faces), 'face')} would be erased; look with --dry-run, then give --yes")
            typer.confirm(f"Erase {count(len(faces), 'face')} for good?", abort=True)
        with audit_log(audit or sibling_path(place, "audit.jsonl")):
            annotate_faces("store erase", len(faces), sorted({face.device for face in faces}))
            if lasting:
                opened.keep_away(device, selection.since or 0.0, selection.until or time.time())
                faces = list(selection.find(opened))  # with what came meanwhile
            gone = 0
            for at in range(0, len(faces), 500):
                gone += opened.erase([FaceName(face.stream, face.sequence) for face in faces[at : at + 500]])
        opened.scrub()
        later = _later(opened, faces)
    if as_json:
        typer.echo(json.dumps({"erased": gone, "devices": later}))
        return
    typer.echo(f"{count(gone, 'face')} erased")
    for one in later:
        typer.echo(f"{one['device']} sent its last face {one['last_received']}; its spool may hold more of the same")
    again = " ".join(["edge-stscq store erase", *_words(stream, device, since, until, match, min_cosine)])
    if lasting:
        note(f"what these still hold of that time is refused, but where a camera has no clock: then run again: {again}")
    elif not ids and (match is None or Path(match).is_file()):
        note(f"when these have drained, run again: {again} --store {place}")
    else:
        note("when these have drained, search with another face of the person: --match ID, or a file of `store export`")
    if seal is None:
        note("backups that were made before still hold them; `store restore` erases them again")
    else:
        note("their keys are deleted: no copy of the store can be read for them, but with a copy of its key file")


@store.command("export", cls=Command)
@with_verbosity
def export(
    output: Annotated[Path, typer.Option("--output", "-o", help="New folder.")],
    ids: Ids = None,
    person: Annotated[int | None, typer.Option(help="Faces of this person, by number (`person list`).")] = None,
    stream: Stream = None,
    device: Device = None,
    since: Since = None,
    until: Until = None,
    match: Like = None,
    min_cosine: MinCosine = 0.3,
    model: Model = None,
    place: Store = "faces.db",
    seal: Seal = None,
    seal_keys: SealKeys = None,
    audit: Audit = None,
    as_json: AsJson = False,
) -> None:
    """Write faces as pictures, with what is known of each (times, device, frame) in faces.json: a person's own data.

    Where a server groups faces, persons.json has visits, names and enrolled photographs. MODEL.stsq has the faces as
    frames; `erase --match MODEL.stsq` finds what a camera sends of the same person later.
    """
    from edge_stscq._files import make_folder, write_file
    from edge_stscq._images import encode_image
    from edge_stscq.errors import EdgeError, FrameError
    from edge_stscq.server.auth.audit_log import annotate_faces, audit_log
    from edge_stscq.server.persons.editing import PersonStore
    from edge_stscq.server.persons.export import exported_persons, visits_of_faces
    from edge_stscq.server.storage.database import sibling_path
    from edge_stscq.server.storage.face_store import FaceName

    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise EdgeError(f"{output} is not an empty folder; choose another -o")
    if person is not None and (ids or match is not None):
        raise EdgeError("give ids of faces, --match or --person, not two of them")
    with _opened(place, seal, seal_keys) as opened:
        people, besides = PersonStore(opened), () if person is None else (person,)
        if person is not None:
            ids = people.face_ids(person)
        nobody, asked = person is not None and not ids, _selection(ids, stream, device, since, until)
        chosen = [] if nobody else _chosen(opened, asked, match, min_cosine, model)
        visits = visits_of_faces(people, (FaceName(face.stream, face.sequence) for face, _ in chosen))
        persons = exported_persons(people, visits.values(), besides)
    with audit_log(audit or sibling_path(place, "audit.jsonl")):
        annotate_faces("store export", len(chosen), sorted({face.device for face, _ in chosen}))
    codecs, told = _codecs(model), []
    coded: dict[bytes, list[CodedFace]] = {}
    make_folder(output)
    output.chmod(0o700)
    with progress_bar("faces", len(chosen)) as progress:
        for face, cosine in chosen:
            visit = visits.get(FaceName(face.stream, face.sequence))
            row = _row(face, cosine) | {
                "payload": face.payload.hex(), "picture": None, "visit": None if visit is None else visit.id,
                "person": None if visit is None else visit.person,
            }  # fmt: skip
            codec = codecs.get(face.model)
            with contextlib.suppress(FrameError):
                if codec is not None:
                    read = codec.frames.face(face.frame())
                    coded.setdefault(face.model, []).append(read)
                    picture = codec.decode([read])[0]
                    row["picture"] = f"{face.id}.png"
                    write_file(output / f"{face.id}.png", encode_image(picture))
            told.append(row)
            progress(1)
    for name, faces in coded.items():
        write_file(output / f"{name.hex()}.stsq", codecs[name].frames.write(faces))
    write_file(output / "faces.json", (json.dumps(told, indent=1) + "\n").encode())
    if persons:
        write_file(output / "persons.json", (json.dumps(persons, indent=1) + "\n").encode())
    pictures = sum(row["picture"] is not None for row in told)
    if as_json:
        done = {"output": str(output), "faces": len(told), "pictures": pictures, "persons": len(persons)}
        typer.echo(json.dumps(done))
    else:
        files = "faces.json, persons.json" if persons else "faces.json"
        typer.echo(f"{output}: {count(len(told), 'face')}, {count(pictures, 'picture')}, {files}")


def store_seal(source: str | None, keys: Path | None, place: str | Path) -> "FaceSeal | None":
    """Seal of the store at `place`, None if neither a secret nor a key file is given."""
    if source is None and keys is None:
        return None
    from edge_stscq.server.sealing.face_seal import open_seal

    return open_seal(source, keys, place)


def _keyless(face_id: str) -> str:
    return f"face {face_id} cannot be read: its key is gone: it was erased, or the key file is older than the store"


@contextlib.contextmanager
def _opened(place: str, seal: str | None, seal_keys: Path | None) -> "Iterator[SqlFaceStore]":
    from edge_stscq.errors import EdgeError, require

    require("sqlalchemy", "server")
    from edge_stscq.server.storage.database import StoreError, sqlite_path, store_url
    from edge_stscq.server.storage.sql_face_store import SqlFaceStore

    path = sqlite_path(store_url(place))
    if path is not None and not path.exists():
        raise EdgeError(f"there is no store {path}; give its path with --store")
    try:
        with contextlib.closing(SqlFaceStore(place, store_seal(seal, seal_keys, place))) as opened:
            yield opened
    except StoreError as error:
        raise EdgeError(f"the store failed: {error}; run this again") from None


def _selection(
    ids: Sequence[str] | None, stream: str | None, device: str | None, since: datetime | None, until: datetime | None
) -> "Selection":
    from edge_stscq.server.maintenance.selection import Selection

    begin, end = (None if one is None else one.timestamp() for one in (since, until))
    return Selection(tuple(ids or ()), stream, device, begin, end)


def _chosen(
    opened: "SqlFaceStore", selection: "Selection", match: str | None, min_cosine: float, model: Sequence[Path] | None
) -> "list[tuple[StoredFace, float | None]]":
    """Faces that were asked for, with their likeness to an example, the most alike first."""
    from edge_stscq.errors import EdgeError

    if match is None:
        if selection.empty:
            raise EdgeError("nothing was chosen; give ids of faces, --stream, --device, --since, --until or --match")
        return [(face, None) for face in selection.find(opened)]
    from edge_stscq.server.decoding.catalog import ModelCatalog
    from edge_stscq.server.matching.similar import find_similar

    catalog = ModelCatalog(model or (folder(MODEL),))
    entry, face = _example(match, catalog, opened)
    found = find_similar(selection.find(opened), entry, face, face.layers, min_cosine)
    return sorted(found, key=lambda one: -(one[1] or 0.0))


def _example(match: str, catalog: "ModelCatalog", opened: "SqlFaceStore") -> "tuple[CatalogEntry, CodedFace]":
    """The face whose person is meant: the first of a file, or one of the store."""
    from edge_stscq.errors import EdgeError, FrameError
    from edge_stscq.server.maintenance.selection import Selection
    from edge_stscq.stream.frame import file_model_id, read_stream

    if not Path(match).is_file():
        (example,) = Selection((match,)).find(opened)
        if example.protected:
            raise EdgeError(f"face {match} is a protected template, which is like no face without its key; name its id")
        entry = catalog.find(example.model, f"face {match}")
        return entry, entry.codec.face(example.frame())
    try:
        data = read_stream(Path(match))
        entry = catalog.find(file_model_id(data), match)
        return entry, next(entry.codec.read(data))
    except FrameError as error:
        raise EdgeError(f"{match} holds no face: {error}") from None
    except StopIteration:
        raise EdgeError(f"{match} holds no face; make one with `edge-stscq encode` or `store export`") from None


def _codecs(model: Sequence[Path] | None) -> "dict[bytes, Codec]":
    from edge_stscq.codec.model import Codec

    codecs = [Codec.load(place) for place in model or (folder(MODEL),)]
    return {codec.frames.model_id: codec for codec in codecs}


def _row(face: "StoredFace", cosine: float | None) -> dict[str, object]:
    captured = None if face.captured_ms is None else _time(face.captured_ms / 1000)
    return {
        "id": face.id, "device": face.device, "stream": face.stream.hex(), "number": face.sequence,
        "model": face.model.hex(), "layers": face.layers, "protected": face.protected, "captured": captured,
        "received": _time(face.received), "track": face.track, "quality": face.quality,
        "cosine": None if cosine is None else round(cosine, 4),
    }  # fmt: skip


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")


def _preview(chosen: "Sequence[tuple[StoredFace, float | None]]", as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"faces": [_row(face, cosine) for face, cosine in chosen]}))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("face", "device", "occurred", "alike", box=None)
    for face, cosine in chosen[:_SHOWN]:
        table.add_row(face.id, face.device, _time(face.occurred), "" if cosine is None else f"{cosine:.3f}")
    table.caption = f"{count(len(chosen), 'face')}" + (f", {_SHOWN} shown" if len(chosen) > _SHOWN else "")
    Console().print(table)


def _later(opened: "SqlFaceStore", faces: "Sequence[StoredFace]") -> list[dict[str, str]]:
    """Devices of erased faces, each with the time of its latest face: it may upload more."""
    last = {stats.device: stats.last_received for stats in opened.devices(0.0)}
    for face in faces:
        last[face.device] = max(last.get(face.device, 0.0), face.received)
    return [{"device": name, "last_received": _time(last[name])} for name in sorted({face.device for face in faces})]


def _words(
    stream: str | None, device: str | None, since: datetime | None, until: datetime | None, match: str | None,
    min_cosine: float,
) -> list[str]:  # fmt: skip
    """Arguments that ask for the same faces again."""
    options = {
        "--stream": stream, "--device": device, "--since": since and since.isoformat(),
        "--until": until and until.isoformat(), "--match": match, "--min-cosine": match and f"{min_cosine:g}",
    }  # fmt: skip
    return [word for name, value in options.items() if value for word in (name, value)]
