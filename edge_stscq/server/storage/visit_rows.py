"""Rows of visits and persons that go with their faces, in the transaction in which these are erased.

A visit without faces goes, and with its last visit a person: name, and what was noted of edits. Who was enrolled stays
until the enrollment is forgotten.
"""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, exists, func, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from edge_stscq.server.storage.face_store import FaceName
from edge_stscq.server.storage.tables import (
    edit_persons,
    edits,
    enrollments,
    faces,
    gone,
    grouping,
    persons,
    visit_faces,
    visits,
)

_FACE = (visit_faces.c.stream == bindparam("of"), visit_faces.c.sequence == bindparam("number"))
_VISIT_OF = select(visit_faces.c.visit).where(*_FACE)
_LEAVE = delete(visit_faces).where(*_FACE)
_HEAD = select(grouping).with_for_update()
MANY = 500


def head(db: Connection) -> tuple[int, int, int, int]:
    """Mark, last change, last number given, faces passed; held until the commit."""
    _, mark, changed, made, passed = db.execute(_HEAD).one()
    return int(mark), int(changed), int(made), int(passed)


def leave(db: Connection, names: Sequence[FaceName]) -> None:
    """Take erased faces out of their visits."""
    touched: set[int] = set()
    bound = [{"of": name.stream, "number": name.number} for name in names]
    for one in bound:
        touched |= set(db.execute(_VISIT_OF, one).scalars())
    if not touched:
        return
    _, changed, _, _ = head(db)
    changed += 1
    db.execute(_LEAVE, bound)
    db.execute(update(grouping).values(changed=changed))
    for some in chunks(sorted(touched)):
        owners = set(db.execute(select(visits.c.person).where(visits.c.id.in_(some))).scalars())
        kept = set(db.execute(select(visit_faces.c.visit).where(visit_faces.c.visit.in_(some)).distinct()).scalars())
        remove_visits(db, set(some) - kept, changed)
        db.execute(update(visits).where(visits.c.id.in_(kept)).values(changed=changed))
        remove_empty(db, owners, changed)


def remove_visits(db: Connection, ids: Iterable[int], changed: int) -> None:
    """Remove visits that have no faces."""
    for some in chunks(sorted(ids)):
        db.execute(delete(visits).where(visits.c.id.in_(some)))
        note_gone(db, "visit", some, changed)


def remove_empty(db: Connection, ids: Iterable[int], changed: int, *, noted: bool = True) -> None:
    """Remove those of these persons who have neither a visit nor an enrollment; the others have changed.

    Args:
        noted: what was noted of edits to them goes, too.
    """
    for some in chunks(sorted(ids)):
        there = set(db.execute(select(persons.c.id).where(persons.c.id.in_(some))).scalars())
        kept = set(db.execute(select(visits.c.person).where(visits.c.person.in_(some)).distinct()).scalars())
        kept |= set(db.execute(select(enrollments.c.person).where(enrollments.c.person.in_(some))).scalars())
        empty = sorted(there - kept)
        db.execute(update(persons).where(persons.c.id.in_(there & kept)).values(changed=changed))
        if not empty:
            continue
        db.execute(delete(persons).where(persons.c.id.in_(empty)))
        note_gone(db, "person", empty, changed)
        if noted:
            forget_edits(db, empty)


def forget_edits(db: Connection, ids: Sequence[int]) -> None:
    """Forget what was done to persons: what is noted holds their names."""
    old = set(db.execute(select(edit_persons.c.edit).where(edit_persons.c.person.in_(ids))).scalars())
    db.execute(delete(edits).where(edits.c.id.in_(old)))
    db.execute(delete(edit_persons).where(edit_persons.c.edit.in_(old)))


def note_gone(db: Connection, kind: str, ids: Sequence[int], changed: int) -> None:
    """Note for followers that visits or persons are not any more."""
    if ids:
        db.execute(delete(gone).where(gone.c.kind == kind, gone.c.id.in_(ids)))
        db.execute(insert(gone), [{"kind": kind, "id": one, "changed": changed} for one in ids])


def chunks(ids: Sequence[int]) -> Iterable[Sequence[int]]:
    """At most `MANY` of them at a time: databases bound what a query may name."""
    return (ids[at : at + MANY] for at in range(0, len(ids), MANY))


def carry(db: Connection, read: Callable[[str], Sequence[Sequence[Any]]]) -> None:
    """Take visits, persons and enrollments over into a repaired store, as far as they can be read and have faces.

    What was noted of edits is left behind, and every face is looked at again: those in a visit stay there.

    Args:
        read: answers a query with the rows of the damaged store that can be read.
    """
    highest = 0
    for table in (visits, visit_faces, persons, enrollments):
        names = [column.name for column in table.columns]
        for row in read(f"SELECT {', '.join(names)} FROM {table.name}"):
            with contextlib.suppress(SQLAlchemyError), db.begin_nested():
                db.execute(insert(table), [dict(zip(names, row, strict=True))])
    there = exists().where(faces.c.stream == visit_faces.c.stream, faces.c.sequence == visit_faces.c.sequence)
    db.execute(delete(visit_faces).where(~there))
    known = select(visits.c.id)
    db.execute(delete(visit_faces).where(visit_faces.c.visit.not_in(known)))
    whole = select(visit_faces.c.visit)
    db.execute(delete(visits).where(visits.c.id.not_in(whole) | visits.c.person.not_in(select(persons.c.id))))
    db.execute(delete(visit_faces).where(visit_faces.c.visit.not_in(known)))
    used = select(visits.c.person).union(select(enrollments.c.person))
    db.execute(delete(persons).where(persons.c.id.not_in(used)))
    for table in (visits, persons, enrollments):
        highest = max(highest, int(db.execute(select(func.max(table.c.id))).scalar() or 0))
    changed = max(int(db.execute(select(func.max(one.c.changed))).scalar() or 0) for one in (visits, persons))
    db.execute(update(grouping).values(revision=0, made=highest, changed=changed))
