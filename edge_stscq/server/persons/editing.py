"""Persons changed by hand: named, hidden, merged, split, enrolled, forgotten; and each change undone.

An edit notes what was before. Undoing puts it back, unless a later edit of the same persons stands in the way. What is
noted holds names, and is forgotten with the last face of any person that it speaks of.
"""

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from edge_stscq.errors import EdgeError
from edge_stscq.server.persons.rows import (
    Owner,
    PersonRow,
    Photo,
    VisitPosition,
    VisitRow,
    changed_visits,
    owners,
    person_query,
    read_persons,
    read_photos,
    read_visits,
    visit_query,
)
from edge_stscq.server.storage.face_store import FaceName
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from edge_stscq.server.storage.tables import (
    edit_persons,
    edits,
    enrollments,
    gone,
    grouping,
    persons,
    visit_faces,
    visits,
)
from edge_stscq.server.storage.visit_rows import chunks, forget_edits, head, remove_empty

MAX_NAME = 200
"""Characters."""


class NoPersonError(EdgeError):
    """Person, visit or edit that is not there."""


class UndoError(EdgeError):
    """Edit that cannot be undone now."""


@dataclass(frozen=True)
class Enrolled:
    """Coded photograph of a person on the watch list.

    Attributes:
        model: id, 8 bytes.
        payload: of all its layers.
        quality: 0 to 100.
    """

    model: bytes
    layers: int
    payload: bytes
    quality: int


@dataclass(frozen=True)
class Edited:
    """Result of an edit: its number, to undo it by, and the person whom it left."""

    edit: int
    person: int


@dataclass(frozen=True)
class Undone:
    """An edit that was taken back."""

    edit: int
    undone: str


@dataclass(frozen=True)
class Changes:
    """Visits and persons that changed, and went, up to `revision`; `more` if that was not all."""

    visits: list[VisitRow]
    persons: list[PersonRow]
    gone_visits: list[int]
    gone_persons: list[int]
    revision: int
    more: bool
    mark: int
    passed: int


@dataclass
class _Before:
    """State that an edit is undone to."""

    persons: list[dict[str, Any]] = field(default_factory=list)
    visits: dict[int, int] = field(default_factory=dict)
    made: list[int] = field(default_factory=list)
    enrolled: list[int] = field(default_factory=list)
    enrollments: dict[int, int] = field(default_factory=dict)


class PersonStore:
    """Visits and persons of a face store; safe to call from many threads and beside other servers.

    Every method raises `StoreError` while the store cannot be used.

    Example:
        >>> people = PersonStore(SqlFaceStore("faces.db"))
        >>> edited = people.name(7, "Ada")
        >>> people.undo(edited.edit).undone
        'name'
    """

    def __init__(self, store: SqlFaceStore) -> None:
        self._faces, self._database = store, store.database
        self._seal = None if store.seal is None else store.seal.people

    def visits(self, limit: int, before: VisitPosition | None = None, **chosen: Any) -> list[VisitRow]:
        """At most `limit` visits, newest first; further arguments as of `rows.visit_query`."""
        with self._database.read() as db:
            return read_visits(db, visit_query(before, **chosen).limit(limit))

    def visit(self, number: int) -> VisitRow:
        """One visit.

        Raises:
            NoPersonError: there is none.
        """
        with self._database.read() as db:
            found = read_visits(db, visit_query(ids=[number]))
        if not found:
            raise NoPersonError(f"there is no visit {number}")
        return found[0]

    def visits_with(self, names: Iterable[FaceName]) -> list[VisitRow]:
        """Visits that these faces are of, each with all its faces."""
        with self._database.read() as db:
            found: set[int] = set()
            for name in names:
                of = (visit_faces.c.stream == name.stream, visit_faces.c.sequence == name.number)
                found |= set(db.execute(select(visit_faces.c.visit).where(*of)).scalars())
            return [row for some in chunks(sorted(found)) for row in read_visits(db, visit_query(ids=some))]

    def face_ids(self, person: int) -> list[str]:
        """Ids of all faces of a person.

        Raises:
            NoPersonError: there is none.
        """
        self.person(person)
        with self._database.read() as db:
            found = read_visits(db, visit_query(person=person))
        return [row.face_id(member) for row in found for member in row.members]

    def enrolled(self, person: int) -> list[Enrolled]:
        """Coded photographs of a person on the watch list."""
        with self._database.read() as db:
            photos = [one for one in read_photos(db) if one.person == person]
        if self._seal is not None:
            photos = self._seal.open_photos(photos)
        return [Enrolled(one.model, one.layers, one.payload, one.quality) for one in photos]

    def owners(self, ids: Iterable[int]) -> dict[int, Owner]:
        """Facts of persons as a list of visits tells them."""
        with self._database.read() as db:
            found = owners(db, ids)
        names = self._opened({person: owner.name for person, owner in found.items()})
        return {person: owner._replace(name=names[person]) for person, owner in found.items()}

    def persons(
        self, limit: int, after: int | None = None, *, part: str | None = None, **chosen: Any
    ) -> list[PersonRow]:  # fmt: skip
        """At most `limit` persons, the newest first; further arguments as of `rows.person_query`."""
        with self._database.read() as db:
            if part and self._seal is not None:
                chosen["ids"], part = self._seal.people_called(db, part), None
            return self._named(read_persons(db, person_query(after, part=part, **chosen).limit(limit)))

    def person(self, number: int) -> PersonRow:
        """One person.

        Raises:
            NoPersonError: there is none.
        """
        with self._database.read() as db:
            found = self._named(read_persons(db, person_query(ids=[number])))
        if not found:
            raise NoPersonError(f"there is no person {number}; see: edge-stscq person list")
        return found[0]

    def changes(self, after: int | None, limit: int = 1000) -> Changes:
        """Changes after a revision; nothing but the newest revision if it is None."""
        with self._database.read() as db:
            _, mark, newest, _, passed = db.execute(select(grouping)).one()
            if after is None or after >= newest:
                return Changes([], [], [], [], newest, False, mark, passed)
            first = select(visits.c.changed).where(visits.c.changed > after).order_by(visits.c.changed)
            others = select(persons.c.changed).where(persons.c.changed > after).order_by(persons.c.changed)
            ends = [db.execute(one.offset(limit).limit(1)).scalar() for one in (first, others)]
            # A change is taken whole, or what shares its number would be passed over.
            end = max(min([one for one in ends if one is not None], default=newest), after + 1)
            some = changed_visits(after, 2**53).where(visits.c.changed <= end)
            people = person_query().where(persons.c.changed > after, persons.c.changed <= end)
            away = db.execute(select(gone.c.kind, gone.c.id).where(gone.c.changed > after, gone.c.changed <= end)).all()
            return Changes(
                read_visits(db, some), self._named(read_persons(db, people)),
                [one for kind, one in away if kind == "visit"], [one for kind, one in away if kind == "person"],
                end, end < newest, mark, passed,
            )  # fmt: skip

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
        with self._editing(what, [person]) as (db, edit, before):
            before.persons += _kept(db, [person])
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
        with self._editing("merge", [person, *others]) as (db, edit, before):
            found = {one["id"]: one for one in _kept(db, [person, *others])}
            before.persons += found.values()
            giver = next((one for one in (person, *others) if found[one]["name"] is not None), person)
            name = found[giver]["name"]
            if name is not None and giver != person:
                name = self._sealed(person, str(self._opened({giver: name})[giver]))
            moved = select(visits.c.id, visits.c.person).where(visits.c.person.in_(others))
            before.visits = {row[0]: row[1] for row in db.execute(moved)}
            noted = select(enrollments.c.id, enrollments.c.person).where(enrollments.c.person.in_(others))
            before.enrollments = {row[0]: row[1] for row in db.execute(noted)}
            changed = _changed(db)
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
        with self._editing("split", [person]) as (db, edit, before):
            own = set(db.execute(select(visits.c.id).where(visits.c.person == person)).scalars())
            if wanted - own:
                raise NoPersonError(f"visit {min(wanted - own)} is not of person {person}")
            if not wanted or wanted == own:
                raise EdgeError(f"name some of the {len(own)} visits of person {person}, and not all")
            before.persons += _kept(db, [person])
            before.visits = dict.fromkeys(wanted, person)
            fresh = _given(db)
            before.made.append(fresh)
            changed = _changed(db)
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
        with self._editing("enroll", [] if person is None else [person]) as (db, edit, before):
            changed = _changed(db)
            if person is None:
                person = _given(db)
                before.made.append(person)
                made = {"id": person, "name": self._sealed(person, name), "hidden": 0, "edited": 1, "changed": changed}
                db.execute(insert(persons), [made])
                db.execute(insert(edit_persons), [{"edit": edit, "person": person}])
            else:
                before.persons += _kept(db, [person])
                named = {"name": self._sealed(person, name), "edited": 1}
                db.execute(update(persons).where(persons.c.id == person).values(named))
            rows = [
                Photo(_given(db), person, photo.model, photo.layers, photo.payload, photo.quality) for photo in photos
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
            self._restore(db, _Before(**json.loads(text)), changed + 1)
            db.execute(update(edits).where(edits.c.id == number).values(undone=1))
        self._faces.forget_keys()
        return Undone(number, what)

    def _restore(self, db: Connection, before: _Before, changed: int) -> None:
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

    def _named(self, rows: list[PersonRow]) -> list[PersonRow]:
        names = self._opened({row.id: row.name for row in rows})
        return [replace(row, name=names[row.id]) for row in rows]

    def _opened(self, names: Mapping[int, str | None]) -> dict[int, str | None]:
        """Names as people gave them, by person."""
        if self._seal is None:
            return dict(names)
        return {**names} | self._seal.open_names({one: name for one, name in names.items() if name is not None})

    def _sealed(self, person: int, name: str) -> str:
        """A name as it lies in the store; the caller holds `head`."""
        return name if self._seal is None else self._seal.seal_names({person: name})[person]

    @contextmanager
    def _editing(self, what: str, ids: Sequence[int]) -> Iterator[tuple[Connection, int, _Before]]:
        """A transaction with a new edit in it, of persons who are all there."""
        with self._database.write() as db:
            _, changed, _, _ = head(db)
            self._faces.refuse_other_seal(db)
            there = set(db.execute(select(persons.c.id).where(persons.c.id.in_(ids))).scalars())
            if missing := [one for one in ids if one not in there]:
                raise NoPersonError(f"there is no person {missing[0]}; see: edge-stscq person list")
            db.execute(update(grouping).values(changed=changed + 1))
            edit, before = _given(db), _Before()
            if ids:
                db.execute(insert(edit_persons), [{"edit": edit, "person": one} for one in ids])
            yield db, edit, before
            text = json.dumps(before.__dict__)
            db.execute(insert(edits), [{"id": edit, "at": time.time(), "what": what, "before": text, "undone": 0}])
            db.execute(update(persons).where(persons.c.id.in_(ids)).values(changed=changed + 1))


def check_name(name: str) -> str:
    """A person's name without spaces around it.

    Raises:
        EdgeError: it is empty, too long, or has control characters.
    """
    name = " ".join(name.split())
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise EdgeError(f"a name has 1 to {MAX_NAME} characters that can be printed")
    return name


def _kept(db: Connection, ids: Sequence[int]) -> list[dict[str, Any]]:
    """Rows of persons as JSON keeps them, in the order asked for."""
    found: dict[int, dict[str, Any]] = {}
    for row in db.execute(select(persons).where(persons.c.id.in_(ids))).mappings():
        stream = row["feature_stream"]
        kept = {name: row[name] for name in ("id", "name", "hidden", "edited", "feature_sequence")}
        found[row["id"]] = kept | {"feature_stream": None if stream is None else bytes(stream).hex()}
    return [found[one] for one in ids]


def _given(db: Connection) -> int:
    """The next number, in a transaction that holds them."""
    made = int(db.execute(select(grouping.c.made)).scalar_one()) + 1
    db.execute(update(grouping).values(made=made))
    return made


def _changed(db: Connection) -> int:
    """Number of the change that this transaction is."""
    return int(db.execute(select(grouping.c.changed)).scalar_one())
