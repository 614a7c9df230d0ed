"""Visits and persons as they are kept, read for routes and commands."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import select

from edge_stscq.errors import EdgeError
from edge_stscq.server.persons.rows import (
    Owner,
    PersonRow,
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
from edge_stscq.server.storage.tables import gone, grouping, persons, visit_faces, visits
from edge_stscq.server.storage.visit_rows import chunks


class NoPersonError(EdgeError):
    """Person, visit or edit that is not there."""


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


class PersonReader:
    """Visits and persons of a face store, to be read; safe to call from many threads and beside other servers.

    Every method raises `StoreError` while the store cannot be used.
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

    def _named(self, rows: list[PersonRow]) -> list[PersonRow]:
        names = self._opened({row.id: row.name for row in rows})
        return [replace(row, name=names[row.id]) for row in rows]

    def _opened(self, names: Mapping[int, str | None]) -> dict[int, str | None]:
        """Names as people gave them, by person."""
        if self._seal is None:
            return dict(names)
        return {**names} | self._seal.open_names({one: name for one, name in names.items() if name is not None})
