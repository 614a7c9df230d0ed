"""Visits and persons as the store has them, read in one transaction each."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, func, select, tuple_

from edge_stscq.server.storage.face_store import FaceName, face_name
from edge_stscq.server.storage.tables import enrollments, faces, persons, visit_faces, visits
from edge_stscq.server.storage.visit_rows import chunks

_NO_QUALITY = -1


class Member(NamedTuple):
    """Face of a visit."""

    name: FaceName
    layers: int
    quality: int | None

    @property
    def worth(self) -> tuple[int, int]:
        """Measure of a picture: layers, then quality."""
        return self.layers, _NO_QUALITY if self.quality is None else self.quality


@dataclass(frozen=True, slots=True)
class VisitRow:
    """One visit; times in seconds since 1970 UTC, `members` the best first."""

    id: int
    device: str
    stream: bytes
    track: int | None
    model: bytes
    began: float
    ended: float
    person: int
    changed: int
    members: tuple[Member, ...]

    def face_id(self, member: Member) -> str:
        """Name of a face, as addresses have it."""
        return face_name(self.device, *member.name)


@dataclass(frozen=True, slots=True)
class PersonRow:
    """One person, and what is counted of the visits; `feature` is a face's id, of the best visit if none was chosen."""

    id: int
    name: str | None
    hidden: bool
    edited: bool
    changed: int
    enrolled: int = 0
    visits: int = 0
    faces: int = 0
    devices: tuple[str, ...] = ()
    first: float | None = None
    last: float | None = None
    feature: str | None = None


class Owner(NamedTuple):
    """Facts of a person as a list of visits tells them."""

    name: str | None
    hidden: bool
    enrolled: bool


class Photo(NamedTuple):
    """Coded photograph of a person on the watch list."""

    id: int
    person: int
    model: bytes
    layers: int
    payload: bytes
    quality: int


_VISIT = select(
    visits.c.id, visits.c.device, visits.c.stream, visits.c.track, visits.c.model, visits.c.began, visits.c.ended,
    visits.c.person, visits.c.changed,
)  # fmt: skip


class VisitPosition(NamedTuple):
    """Place in the order of time."""

    began: float
    id: int


def read_visits(db: Connection, query: Select[Any]) -> list[VisitRow]:
    """Visits of a query of `visit_query`, each with its faces; without those whose faces are just being erased."""
    found = [tuple(row) for row in db.execute(query)]
    members: dict[int, list[Member]] = defaultdict(list)
    for some in chunks([row[0] for row in found]):
        joined = (
            select(visit_faces.c.visit, faces.c.stream, faces.c.sequence, faces.c.layers, faces.c.quality)
            .join(faces, (faces.c.stream == visit_faces.c.stream) & (faces.c.sequence == visit_faces.c.sequence))
            .where(visit_faces.c.visit.in_(some))
        )
        for visit, stream, number, layers, quality in db.execute(joined):
            members[visit].append(Member(FaceName(bytes(stream), number), layers, quality))
    rows = []
    for row in found:
        best = sorted(members[row[0]], key=lambda one: (one.worth, one.name), reverse=True)
        if best:
            name, device, stream, track, model, began, ended, person, changed = row
            rows.append(
                VisitRow(name, device, bytes(stream), track, bytes(model), began, ended, person, changed, tuple(best))
            )
    return rows


def visit_query(
    before: VisitPosition | None = None, device: str | None = None, since: float | None = None,
    until: float | None = None, person: int | None = None, hidden: bool = True, ids: Sequence[int] | None = None,
) -> Select[Any]:  # fmt: skip
    """Visits, newest first by when they began; `hidden` takes in those of hidden persons."""
    query = _VISIT.order_by(visits.c.began.desc(), visits.c.id.desc())
    if before is not None:
        query = query.where(tuple_(visits.c.began, visits.c.id) < tuple_(before.began, before.id))
    for column, value in ((visits.c.device, device), (visits.c.person, person)):
        if value is not None:
            query = query.where(column == value)
    if since is not None:
        query = query.where(visits.c.began >= since)
    if until is not None:
        query = query.where(visits.c.began < until)
    if ids is not None:
        query = query.where(visits.c.id.in_(ids))
    if not hidden:
        query = query.where(visits.c.person.not_in(select(persons.c.id).where(persons.c.hidden == 1)))
    return query


def changed_visits(after: int, limit: int) -> Select[Any]:
    """Visits that changed since, in order."""
    return _VISIT.where(visits.c.changed > after).order_by(visits.c.changed, visits.c.id).limit(limit)


def owners(db: Connection, ids: Iterable[int]) -> dict[int, Owner]:
    """Facts of these persons as lists of visits tell them."""
    found: dict[int, Owner] = {}
    for some in chunks(sorted(set(ids))):
        enrolled = set(db.execute(select(enrollments.c.person).where(enrollments.c.person.in_(some))).scalars())
        query = select(persons.c.id, persons.c.name, persons.c.hidden).where(persons.c.id.in_(some))
        found |= {one: Owner(name, bool(hidden), one in enrolled) for one, name, hidden in db.execute(query)}
    return found


def read_photos(db: Connection) -> list[Photo]:
    """All photographs of the watch list, as they lie in the store."""
    query = select(*(enrollments.c[name] for name in Photo._fields)).order_by(enrollments.c.id)
    return [Photo(*row)._replace(model=bytes(row.model), payload=bytes(row.payload)) for row in db.execute(query)]


def read_persons(db: Connection, query: Select[Any]) -> list[PersonRow]:
    """Persons of a query of `person_query`, with what is counted of each."""
    found = {
        row.id: (row, None if row.feature_stream is None else FaceName(bytes(row.feature_stream), row.feature_sequence))
        for row in db.execute(query)
    }
    counts: dict[int, tuple[int, float, float]] = {}
    devices: dict[int, list[str]] = defaultdict(list)
    best: dict[int, tuple[tuple[bool, tuple[int, int], float], str]] = {}
    seen: dict[int, int] = defaultdict(int)
    enrolled: dict[int, int] = {}
    for some in chunks(sorted(found)):
        of = visits.c.person.in_(some)
        counted = select(visits.c.person, func.count(), func.min(visits.c.began), func.max(visits.c.ended)).where(of)
        counts |= {row[0]: (row[1], row[2], row[3]) for row in db.execute(counted.group_by(visits.c.person))}
        for person, device in db.execute(select(visits.c.person, visits.c.device).where(of).distinct()):
            devices[person].append(device)
        joined = (
            select(
                visits.c.person, visits.c.device, visits.c.began, faces.c.stream, faces.c.sequence, faces.c.layers,
                faces.c.quality,
            )
            .join(visit_faces, visit_faces.c.visit == visits.c.id)
            .join(faces, (faces.c.stream == visit_faces.c.stream) & (faces.c.sequence == visit_faces.c.sequence))
            .where(of)
        )  # fmt: skip
        for person, device, began, stream, number, layers, quality in db.execute(joined):
            seen[person] += 1
            name = FaceName(bytes(stream), number)
            worth = found[person][1] == name, Member(name, layers, quality).worth, began
            if person not in best or worth > best[person][0]:
                best[person] = worth, face_name(device, *name)
        noted = select(enrollments.c.person, func.count()).where(enrollments.c.person.in_(some))
        enrolled |= {row[0]: row[1] for row in db.execute(noted.group_by(enrollments.c.person))}
    return [
        PersonRow(
            one, row.name, bool(row.hidden), bool(row.edited), row.changed, enrolled.get(one, 0),
            counts.get(one, (0, 0.0, 0.0))[0], seen[one], tuple(sorted(devices[one])),
            counts[one][1] if one in counts else None, counts[one][2] if one in counts else None,
            best[one][1] if one in best else None,
        )
        for one, (row, _) in found.items()
    ]  # fmt: skip


def person_query(
    after: int | None = None, ids: Sequence[int] | None = None, named: bool | None = None, hidden: bool = True,
    part: str | None = None,
) -> Select[Any]:  # fmt: skip
    """Persons, the newest first.

    Args:
        after: only those behind this one.
        named: only those who have a name, or have none.
        part: of the name, in whatever case.
    """
    query = select(persons).order_by(persons.c.id.desc())
    if after is not None:
        query = query.where(persons.c.id < after)
    if ids is not None:
        query = query.where(persons.c.id.in_(ids))
    if named is not None:
        query = query.where(persons.c.name.is_not(None) if named else persons.c.name.is_(None))
    if not hidden:
        query = query.where(persons.c.hidden == 0)
    if part:
        query = query.where(func.lower(persons.c.name).contains(part.lower(), autoescape=True))
    return query
