"""Persons changed by hand: named, hidden, merged, split, enrolled, forgotten; and each change undone (`edit_log`)."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, insert, select, update

from edge_stscq.errors import EdgeError
from edge_stscq.server.persons.edit_log import EditLog, Undone, change_number, next_number, rows_before
from edge_stscq.server.persons.reading import Enrolled, NoPersonError, PersonReader
from edge_stscq.server.persons.rows import Photo
from edge_stscq.server.storage.face_store import FaceName
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from edge_stscq.server.storage.tables import edit_persons, enrollments, grouping, persons, visit_faces, visits
from edge_stscq.server.storage.visit_rows import chunks, forget_edits, head, remove_empty

MAX_NAME = 200
"""Characters."""


@dataclass(frozen=True)
class Edited:
    """Result of an edit: its number, to undo it by, and the person whom it left."""

    edit: int
    person: int


class PersonStore(PersonReader):
    """Visits and persons of a face store; safe to call from many threads and beside other servers.

    Every method raises `StoreError` while the store cannot be used.

    Example:
        >>> people = PersonStore(SqlFaceStore("faces.db"))
        >>> edited = people.name(7, "Ada")
        >>> people.undo(edited.edit).undone
        'name'
    """

    def __init__(self, store: SqlFaceStore) -> None:
        super().__init__(store)
        self._log = EditLog(store)

    def name(self, person: int, name: str | None) -> Edited:
        """Give a person a name, or none.

        Raises:
            NoPersonError: there is none such.
            EdgeError: the name is empty or too long.
        """
        if name is not None:
            name = check_name(name)
        return self._set(person, "name", name=name)

    def hide(self, person: int, hidden: bool) -> Edited:
        """Leave a person out of lists, or not any more.

        Raises:
            NoPersonError: there is none such.
        """
        return self._set(person, "hide", hidden=int(hidden))

    def feature(self, person: int, face: FaceName | None) -> Edited:
        """Show a person by this face of a visit, or by the best.

        Raises:
            NoPersonError: there is none such, or the face is of no visit of this person.
        """
        if face is not None:
            with self._database.read() as db:
                query = select(visits.c.person).join(visit_faces, visit_faces.c.visit == visits.c.id)
                found = query.where(visit_faces.c.stream == face.stream, visit_faces.c.sequence == face.number)
                if db.execute(found).scalar() != person:
                    raise NoPersonError(f"this face is of no visit of person {person}")
        stream, number = (None, None) if face is None else face
        return self._set(person, "feature", feature_stream=stream, feature_sequence=number)

    def _set(self, person: int, what: str, **values: Any) -> Edited:
        with self._log.editing(what, [person]) as (db, edit, before):
            before.persons += rows_before(db, [person])
            if values.get("name") is not None:
                values["name"] = self._sealed(person, values["name"])
            db.execute(update(persons).where(persons.c.id == person).values(edited=1, **values))
        return Edited(edit, person)

    def merge(self, person: int, others: Sequence[int]) -> Edited:
        """Make the visits of others this person's, who takes the first name among them without one.

        Raises:
            NoPersonError: one is not there.
            EdgeError: nobody else is named.
        """
        others = [one for one in dict.fromkeys(others) if one != person]
        if not others:
            raise EdgeError("name another person to merge with")
        with self._log.editing("merge", [person, *others]) as (db, edit, before):
            found = {one["id"]: one for one in rows_before(db, [person, *others])}
            before.persons += found.values()
            giver = next((one for one in (person, *others) if found[one]["name"] is not None), person)
            name = found[giver]["name"]
            if name is not None and giver != person:
                name = self._sealed(person, str(self._opened({giver: name})[giver]))
            moved = select(visits.c.id, visits.c.person).where(visits.c.person.in_(others))
            before.visits = {row[0]: row[1] for row in db.execute(moved)}
            noted = select(enrollments.c.id, enrollments.c.person).where(enrollments.c.person.in_(others))
            before.enrollments = {row[0]: row[1] for row in db.execute(noted)}
            changed = change_number(db)
            db.execute(update(visits).where(visits.c.person.in_(others)).values(person=person, changed=changed))
            db.execute(update(enrollments).where(enrollments.c.person.in_(others)).values(person=person))
            remove_empty(db, others, changed, noted=False)
            db.execute(update(persons).where(persons.c.id == person).values(name=name, edited=1))
        return Edited(edit, person)

    def split(self, person: int, chosen: Sequence[int]) -> Edited:
        """Make some of a person's visits those of a new one.

        Raises:
            NoPersonError: a visit is not this person's.
            EdgeError: none is named, or all are.
        """
        wanted = set(chosen)
        with self._log.editing("split", [person]) as (db, edit, before):
            own = set(db.execute(select(visits.c.id).where(visits.c.person == person)).scalars())
            if wanted - own:
                raise NoPersonError(f"visit {min(wanted - own)} is not of person {person}")
            if not wanted or wanted == own:
                raise EdgeError(f"name some of the {len(own)} visits of person {person}, and not all")
            before.persons += rows_before(db, [person])
            before.visits = dict.fromkeys(wanted, person)
            fresh = next_number(db)
            before.made.append(fresh)
            changed = change_number(db)
            row = {"id": fresh, "name": None, "hidden": 0, "edited": 1, "changed": changed}
            db.execute(insert(persons), [row])
            db.execute(insert(edit_persons), [{"edit": edit, "person": fresh}])
            for some in chunks(sorted(wanted)):
                db.execute(update(visits).where(visits.c.id.in_(some)).values(person=fresh, changed=changed))
            db.execute(update(persons).where(persons.c.id == person).values(edited=1))
        return Edited(edit, fresh)

    def enroll(self, name: str, photos: Sequence[Enrolled], person: int | None = None) -> Edited:
        """Put somebody on the watch list, or add photographs.

        Args:
            person: whom they show; None is whoever has this name and is enrolled, or else a new person.

        Raises:
            NoPersonError: there is no such person.
            EdgeError: the name is empty or too long, several enrolled people have it, or there is no photograph.
        """
        name = check_name(name)
        if not photos:
            raise EdgeError("give a photograph to enroll somebody by")
        if person is None:
            with self._database.read() as db:
                known = select(persons.c.id, persons.c.name).where(
                    persons.c.name.is_not(None), persons.c.id.in_(select(enrollments.c.person))
                )
                names = self._opened({one: found for one, found in db.execute(known)})
                same = [one for one, found in names.items() if found == name]
            if len(same) > 1:
                raise EdgeError(f"{len(same)} enrolled people are called {name}; say which by --person")
            person = same[0] if same else None
        with self._log.editing("enroll", [] if person is None else [person]) as (db, edit, before):
            changed = change_number(db)
            if person is None:
                person = next_number(db)
                before.made.append(person)
                made = {"id": person, "name": self._sealed(person, name), "hidden": 0, "edited": 1, "changed": changed}
                db.execute(insert(persons), [made])
                db.execute(insert(edit_persons), [{"edit": edit, "person": person}])
            else:
                before.persons += rows_before(db, [person])
                named = {"name": self._sealed(person, name), "edited": 1}
                db.execute(update(persons).where(persons.c.id == person).values(named))
            rows = [
                Photo(next_number(db), person, photo.model, photo.layers, photo.payload, photo.quality)
                for photo in photos
            ]
            before.enrolled += [row.id for row in rows]
            if self._seal is not None:
                rows = self._seal.seal_photos(rows)
            db.execute(insert(enrollments), [row._asdict() | {"at": time.time()} for row in rows])
        return Edited(edit, person)

    def forget(self, person: int) -> int:
        """Erase a person for good: faces, enrollments, name, and what was noted of edits; how many faces there were.

        Raises:
            NoPersonError: there is none.
        """
        self.person(person)
        count = 0
        while True:
            with self._database.read() as db:
                of = visit_faces.c.visit.in_(select(visits.c.id).where(visits.c.person == person))
                found = db.execute(select(visit_faces.c.stream, visit_faces.c.sequence).where(of).limit(500)).all()
            if not found:
                break
            erased = self._faces.erase([FaceName(bytes(stream), number) for stream, number in found])
            if not erased:
                raise EdgeError(f"faces of person {person} are damaged; see: edge-stscq store check")
            count += erased
        with self._database.write() as db:
            _, changed, _, _ = head(db)
            db.execute(update(grouping).values(changed=changed + 1))
            db.execute(delete(enrollments).where(enrollments.c.person == person))
            remove_empty(db, [person], changed + 1)
            forget_edits(db, [person])
        self._faces.forget_keys()
        self._faces.scrub()
        return count

    def undo(self, edit: int | None = None) -> Undone:
        """Take an edit back, the last if none is named.

        Raises:
            NoPersonError: there is no such edit, or none at all.
            UndoError: it was undone, or a later edit of the same persons has to be undone first.
        """
        return self._log.undo(edit)

    def _sealed(self, person: int, name: str) -> str:
        """A name as it lies in the store; the caller holds `head`."""
        return name if self._seal is None else self._seal.seal_names({person: name})[person]


def check_name(name: str) -> str:
    """A person's name without spaces around it.

    Raises:
        EdgeError: it is empty, too long, or has control characters.
    """
    name = " ".join(name.split())
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise EdgeError(f"a name has 1 to {MAX_NAME} characters that can be printed")
    return name
