"""Log of edits: what was before each of them, and how it is put back.

Undoing puts it back, unless a later edit of the same persons stands in the way. What is noted holds names, and is
forgotten with the last face of any person that it speaks of.
"""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from edge_stscq.errors import EdgeError
from edge_stscq.server.persons.reading import NoPersonError
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from edge_stscq.server.storage.tables import edit_persons, edits, enrollments, gone, grouping, persons, visits
from edge_stscq.server.storage.visit_rows import head, remove_empty


class UndoError(EdgeError):
    """Edit that cannot be undone now."""


@dataclass(frozen=True)
class Undone:
    """An edit that was taken back."""

    edit: int
    undone: str


@dataclass
class Before:
    """State that an edit is undone to."""

    persons: list[dict[str, Any]] = field(default_factory=list)
    visits: dict[int, int] = field(default_factory=dict)
    made: list[int] = field(default_factory=list)
    enrolled: list[int] = field(default_factory=list)
    enrollments: dict[int, int] = field(default_factory=dict)


class EditLog:
    """Edits of the persons of a face store."""

    def __init__(self, store: SqlFaceStore) -> None:
        self._faces, self._database = store, store.database

    @contextmanager
    def editing(self, what: str, ids: Sequence[int]) -> Iterator[tuple[Connection, int, Before]]:
        """A transaction with a new edit in it, of persons who are all there."""
        with self._database.write() as db:
            _, changed, _, _ = head(db)
            self._faces.refuse_other_seal(db)
            there = set(db.execute(select(persons.c.id).where(persons.c.id.in_(ids))).scalars())
            if missing := [one for one in ids if one not in there]:
                raise NoPersonError(f"there is no person {missing[0]}; see: edge-stscq person list")
            db.execute(update(grouping).values(changed=changed + 1))
            edit, before = next_number(db), Before()
            if ids:
                db.execute(insert(edit_persons), [{"edit": edit, "person": one} for one in ids])
            yield db, edit, before
            text = json.dumps(before.__dict__)
            db.execute(insert(edits), [{"id": edit, "at": time.time(), "what": what, "before": text, "undone": 0}])
            db.execute(update(persons).where(persons.c.id.in_(ids)).values(changed=changed + 1))

    def undo(self, edit: int | None = None) -> Undone:
        """Take an edit back, the last if none is named.

        Raises:
            NoPersonError: there is no such edit, or none at all.
            UndoError: it was undone, or a later edit of the same persons has to be undone first.
        """
        with self._database.write() as db:
            _, changed, _, _ = head(db)
            query = select(edits.c.id, edits.c.what, edits.c.before, edits.c.undone)
            if edit is None:
                query = query.where(edits.c.undone == 0).order_by(edits.c.id.desc()).limit(1)
            else:
                query = query.where(edits.c.id == edit)
            row = db.execute(query).first()
            if row is None:
                raise NoPersonError("there is nothing to undo" if edit is None else f"there is no edit {edit}")
            number, what, text, undone = row
            if undone:
                raise UndoError(f"edit {number} was undone already")
            same = select(edit_persons.c.person).where(edit_persons.c.edit == number)
            later = db.execute(
                select(func.max(edits.c.id))
                .join(edit_persons, edit_persons.c.edit == edits.c.id)
                .where(edits.c.id > number, edits.c.undone == 0, edit_persons.c.person.in_(same))
            ).scalar()
            if later is not None:
                raise UndoError(f"edit {later} of the same person came later; undo it first")
            db.execute(update(grouping).values(changed=changed + 1))
            self._restore(db, Before(**json.loads(text)), changed + 1)
            db.execute(update(edits).where(edits.c.id == number).values(undone=1))
        self._faces.forget_keys()
        return Undone(number, what)

    def _restore(self, db: Connection, before: Before, changed: int) -> None:
        touched = set(before.made)
        for old in before.persons:
            stream = old["feature_stream"]
            values = old | {"feature_stream": None if stream is None else bytes.fromhex(stream), "changed": changed}
            db.execute(delete(persons).where(persons.c.id == old["id"]))
            db.execute(insert(persons), [values])
            db.execute(delete(gone).where(gone.c.kind == "person", gone.c.id == old["id"]))
            touched.add(old["id"])
        for visit, person in before.visits.items():
            where = visits.c.id == int(visit)
            touched |= set(db.execute(select(visits.c.person).where(where)).scalars())
            db.execute(update(visits).where(where).values(person=person, changed=changed))
        for number, person in before.enrollments.items():
            db.execute(update(enrollments).where(enrollments.c.id == int(number)).values(person=person))
        if before.enrolled:
            db.execute(delete(enrollments).where(enrollments.c.id.in_(before.enrolled)))
        remove_empty(db, touched, changed, noted=False)


def rows_before(db: Connection, ids: Sequence[int]) -> list[dict[str, Any]]:
    """Rows of persons as JSON keeps them, in the order asked for."""
    found: dict[int, dict[str, Any]] = {}
    for row in db.execute(select(persons).where(persons.c.id.in_(ids))).mappings():
        stream = row["feature_stream"]
        kept = {name: row[name] for name in ("id", "name", "hidden", "edited", "feature_sequence")}
        found[row["id"]] = kept | {"feature_stream": None if stream is None else bytes(stream).hex()}
    return [found[one] for one in ids]


def next_number(db: Connection) -> int:
    """The next number, in a transaction that holds them."""
    made = int(db.execute(select(grouping.c.made)).scalar_one()) + 1
    db.execute(update(grouping).values(made=made))
    return made


def change_number(db: Connection) -> int:
    """Number of the change that this transaction is."""
    return int(db.execute(select(grouping.c.changed)).scalar_one())
