"""Visits and persons of stored faces, as the copy has them that is handed to somebody who asks what is kept."""

from collections.abc import Iterable, Sequence
from typing import Any

from edge_stscq.server.api.schemas import moment
from edge_stscq.server.persons.editing import PersonStore
from edge_stscq.server.persons.rows import VisitRow
from edge_stscq.server.storage.face_store import FaceName


def visits_of_faces(people: PersonStore, names: Iterable[FaceName]) -> dict[FaceName, VisitRow]:
    """Visit of each face that is in one."""
    wanted = set(names)
    rows = people.visits_with(wanted)
    return {member.name: row for row in rows for member in row.members if member.name in wanted}


def exported_persons(
    people: PersonStore, visits: Iterable[VisitRow], besides: Sequence[int] = ()
) -> list[dict[str, Any]]:
    """Persons of these visits, and others, as JSON takes them: name, enrolled photographs, and these visits alone."""
    of_person: dict[int, dict[int, VisitRow]] = {one: {} for one in besides}
    for visit in visits:
        of_person.setdefault(visit.person, {})[visit.id] = visit
    return [
        {
            "person": number, "name": people.person(number).name,
            "enrolled": [
                {"model": one.model.hex(), "layers": one.layers, "payload": one.payload.hex(), "quality": one.quality}
                for one in people.enrolled(number)
            ],
            "visits": [
                {
                    "visit": one.id, "device": one.device, "track": one.track, "began": moment(one.began).isoformat(),
                    "ended": moment(one.ended).isoformat(), "faces": [one.face_id(member) for member in one.members],
                }
                for one in sorted(found.values(), key=lambda one: one.began)
            ],
        }
        for number, found in sorted(of_person.items())
    ]  # fmt: skip
