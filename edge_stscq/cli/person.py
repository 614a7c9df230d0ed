"""`edge-stscq person`: people whom a server has seen, named, merged, split, enrolled and forgotten."""

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_stscq.cli.command import Command, with_verbosity
from edge_stscq.cli.options import BUNDLE, BundleOption
from edge_stscq.cli.store import AsJson, Audit, Seal, SealKeys, Store
from edge_stscq.cli.ui import count, note

if TYPE_CHECKING:
    from edge_stscq.bundle import Bundle
    from edge_stscq.server.persons.editing import Edited, PersonStore
    from edge_stscq.server.persons.reading import Enrolled
    from edge_stscq.server.persons.rows import PersonRow, VisitRow
    from edge_stscq.stream import CodedFace

person = typer.Typer(help="List, name, merge, split, enroll and forget people whom a server saw.", no_args_is_help=True)

Who = Annotated[int, typer.Argument(metavar="PERSON", help="Number that `person list` shows.")]


@person.command("list", cls=Command)
@with_verbosity
def list_persons(
    named: Annotated[bool, typer.Option("--named", help="Only people who have a name.")] = False,
    hidden: Annotated[bool, typer.Option("--hidden", help="Also people who are hidden.")] = False,
    part: Annotated[str | None, typer.Option("--name", help="Only people whose name has this in it.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Most people, the newest first.")] = 50,
    place: Store = "faces.db",
    seal: Seal = None,
    seal_keys: SealKeys = None,
    as_json: AsJson = False,
) -> None:
    """List people, the newest first."""
    with _opened(place, seal, seal_keys) as people:
        rows = people.persons(limit, named=named or None, hidden=hidden, part=part)
    if as_json:
        typer.echo(json.dumps({"persons": [_person(row) for row in rows]}))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("person", "name", "visits", "faces", "last seen", "devices", box=None)
    for row in rows:
        last = "" if row.last is None else _time(row.last)
        marks = f"{row.name or ''}{' (hidden)' if row.hidden else ''}{' (enrolled)' if row.enrolled else ''}"
        table.add_row(str(row.id), marks, str(row.visits), str(row.faces), last, ", ".join(row.devices))
    table.caption = count(len(rows), "person")
    Console().print(table)


@person.command("show", cls=Command)
@with_verbosity
def show(
    who: Who, place: Store = "faces.db", seal: Seal = None, seal_keys: SealKeys = None, as_json: AsJson = False
) -> None:
    """Show a person's visits, newest first, with the best face of each."""
    with _opened(place, seal, seal_keys) as people:
        row, visits = people.person(who), people.visits(1000, person=who)
    if as_json:
        typer.echo(json.dumps(_person(row) | {"visits_newest": [_visit(visit) for visit in visits]}))
        return
    typer.echo(f"person {row.id}: {row.name or 'no name'}, {count(row.visits, 'visit')}, {count(row.faces, 'face')}")
    for visit in visits:
        best = visit.face_id(visit.members[0])
        typer.echo(f"  visit {visit.id}  {_time(visit.began)}  {visit.device}  {best}")


@person.command("name", cls=Command)
@with_verbosity
def name(
    who: Who,
    text: Annotated[str | None, typer.Argument(metavar="[NAME]", help="The name; none takes it away.")] = None,
    place: Store = "faces.db",
    seal: Seal = None,
    seal_keys: SealKeys = None,
    audit: Audit = None,
    as_json: AsJson = False,
) -> None:
    """Give a person a name, or take it away."""
    with _edited(place, seal, seal_keys, audit, "person name", who) as people:
        _tell(people.name(who, text), as_json)


@person.command("hide", cls=Command)
@with_verbosity
def hide(
    who: Who,
    show_again: Annotated[bool, typer.Option("--show", help="Show the person again.")] = False,
    place: Store = "faces.db",
    seal: Seal = None,
    seal_keys: SealKeys = None,
    audit: Audit = None,
    as_json: AsJson = False,
) -> None:
    """Leave a person out of lists, or not any more."""
    with _edited(place, seal, seal_keys, audit, "person hide", who) as people:
        _tell(people.hide(who, not show_again), as_json)


@person.command("merge", cls=Command)
@with_verbosity
def merge(
    who: Who,
    others: Annotated[list[int], typer.Argument(metavar="OTHER...", help="Numbers of those who are the same person.")],
    place: Store = "faces.db",
    seal: Seal = None,
    seal_keys: SealKeys = None,
    audit: Audit = None,
    as_json: AsJson = False,
) -> None:
    """Make the visits of others this person's."""
    with _edited(place, seal, seal_keys, audit, "person merge", who) as people:
        _tell(people.merge(who, others), as_json)


@person.command("split", cls=Command)
@with_verbosity
def split(
    who: Who,
    visits: Annotated[list[int], typer.Argument(metavar="VISIT...", help="Numbers that `person show` shows.")],
    place: Store = "faces.db",
    seal: Seal = None,
    seal_keys: SealKeys = None,
    audit: Audit = None,
    as_json: AsJson = False,
) -> None:
    """Make some of a person's visits those of a new one."""
    with _edited(place, seal, seal_keys, audit, "person split", who) as people:
        _tell(people.split(who, visits), as_json)


@person.command("undo", cls=Command)
@with_verbosity
def undo(
    edit: Annotated[int | None, typer.Argument(metavar="[EDIT]", help="Number of the edit; the last if none.")] = None,
    place: Store = "faces.db",
    seal: Seal = None,
    seal_keys: SealKeys = None,
    audit: Audit = None,
    as_json: AsJson = False,
) -> None:
    """Take an edit back."""
    with _edited(place, seal, seal_keys, audit, "person undo", edit) as people:
        done = people.undo(edit)
    typer.echo(
        json.dumps({"edit": done.edit, "undone": done.undone}) if as_json else f"edit {done.edit} undone: {done.undone}"
    )


@person.command("enroll", cls=Command)
@with_verbosity
def enroll(
    text: Annotated[str, typer.Argument(metavar="NAME", help="Name of the person.")],
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO...", help="Pictures of the person, one face each.")],
    bundle: BundleOption = BUNDLE,
    who: Annotated[int | None, typer.Option("--person", help="Add to this person.")] = None,
    place: Store = "faces.db",
    seal: Seal = None,
    seal_keys: SealKeys = None,
    audit: Audit = None,
    as_json: AsJson = False,
) -> None:
    """Put a person on the watch list. Exit code 1: the gate refused a picture; nobody is enrolled then.

    The pictures are coded as a camera codes faces, and are not kept.
    """
    from edge_stscq.errors import EXIT_CHECK_FAILED

    coded = [(photo, *_coded(photo, bundle)) for photo in photos]
    rows = [
        {"photo": str(photo), "quality": quality, "refused": reason, "enrolled": found is not None}
        for photo, found, quality, reason in coded
    ]
    taken = [found for _, found, _, _ in coded if found is not None]
    done = None
    if len(taken) == len(coded):
        with _edited(place, seal, seal_keys, audit, "person enroll", who, make=True) as people:
            done = people.enroll(text, taken, who)
    if as_json:
        told = {"edit": None, "person": None} if done is None else {"edit": done.edit, "person": done.person}
        typer.echo(json.dumps(told | {"photos": rows}))
    else:
        for row in rows:
            typer.echo(f"{row['photo']}: {row['refused'] or 'taken'}, quality {row['quality']}")
        if done is not None:
            typer.echo(f"person {done.person} is enrolled; undo with: edge-stscq person undo {done.edit}")
    if done is None:
        raise typer.Exit(EXIT_CHECK_FAILED)


person.command("enrol", cls=Command, hidden=True)(enroll)


@person.command("forget", cls=Command)
@with_verbosity
def forget(
    who: Who,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    place: Store = "faces.db",
    seal: Seal = None,
    seal_keys: SealKeys = None,
    audit: Audit = None,
    as_json: AsJson = False,
) -> None:
    """Erase a person for good: faces, photographs on the watch list, and the name."""
    from edge_stscq.errors import EdgeError

    with _opened(place, seal, seal_keys) as people:
        row = people.person(who)
    if not yes:
        if not sys.stdin.isatty():
            raise EdgeError(f"{count(row.faces, 'face')} would be erased; look with `person show`, then give --yes")
        typer.confirm(f"Erase person {who} and {count(row.faces, 'face')} for good?", abort=True)
    with _edited(place, seal, seal_keys, audit, "person forget", who) as people:
        faces = people.forget(who)
    if as_json:
        typer.echo(json.dumps({"forgotten": who, "faces": faces}))
        return
    typer.echo(f"person {who} is forgotten, {count(faces, 'face')} erased")
    note("backups that were made before, and spools of cameras, may still hold faces; see docs/store.md")


def _opened(
    place: str, seal: str | None, seal_keys: Path | None, make: bool = False
) -> "AbstractContextManager[PersonStore]":  # fmt: skip
    from edge_stscq.errors import require

    require("sqlalchemy", "server")
    from edge_stscq.server.persons.opening import open_persons

    return open_persons(place, seal, seal_keys, make=make)


@contextlib.contextmanager
def _edited(
    place: str, seal: str | None, seal_keys: Path | None, audit: Path | None, what: str, who: int | None,
    make: bool = False,
) -> "Iterator[PersonStore]":  # fmt: skip
    """The store, with a line in the audit log before anything is changed; names are not in it."""
    from edge_stscq.server.auth.audit_log import annotate_person, audit_log
    from edge_stscq.server.storage.database import sibling_path

    with _opened(place, seal, seal_keys, make) as people, audit_log(audit or sibling_path(place, "audit.jsonl")):
        annotate_person(what, who)
        yield people


def _coded(photo: Path, bundle: Path) -> "tuple[Enrolled | None, int, str | None]":
    """The largest face of a picture, its quality, and why it was refused."""
    from edge_stscq.bundle import open_bundle
    from edge_stscq.server.persons.reading import Enrolled

    opened = open_bundle(bundle)
    coded, quality, reason = code_picture(photo, opened)
    if coded is None:
        return None, quality, reason
    return Enrolled(opened.frames.model_id, coded.layers, opened.frames.payload(coded), quality), quality, None


def code_picture(photo: Path, opened: "Bundle") -> "tuple[CodedFace | None, int, str | None]":
    """The largest face of a picture as a camera codes it, its quality, and why it was refused."""
    from edge_stscq._images import read_image
    from edge_stscq.device import load_encoder
    from edge_stscq.device.detect import Detector
    from edge_stscq.device.quality import QualityGate

    picture, detector = read_image(photo), Detector()
    face = detector.largest(picture)
    if face is None:
        return None, 0, "no face was found"
    judged = QualityGate(detector).judge(picture, face)
    if judged.refusal is not None:
        return None, judged.score, str(judged.refusal)
    return load_encoder(opened).encode(judged.crop), judged.score, None


def _tell(done: "Edited", as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"edit": done.edit, "person": done.person}))
    else:
        typer.echo(f"person {done.person}; undo with: edge-stscq person undo {done.edit}")


def _person(row: "PersonRow") -> dict[str, Any]:
    return {
        "person": row.id, "name": row.name, "hidden": row.hidden, "enrolled": row.enrolled, "visits": row.visits,
        "faces": row.faces, "devices": list(row.devices), "first": None if row.first is None else _time(row.first),
        "last": None if row.last is None else _time(row.last), "feature": row.feature,
    }  # fmt: skip


def _visit(visit: "VisitRow") -> dict[str, Any]:
    members: Sequence[Any] = visit.members
    return {
        "visit": visit.id, "device": visit.device, "track": visit.track, "began": _time(visit.began),
        "ended": _time(visit.ended), "faces": [visit.face_id(one) for one in members],
    }  # fmt: skip


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")
