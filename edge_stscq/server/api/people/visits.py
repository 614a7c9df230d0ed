"""Routes of the visits: their list, one with its faces, and what changed."""

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request

from edge_stscq.protocol import DEVICE_NAME, MAX_SEQUENCE
from edge_stscq.server.api.faces import Moment
from edge_stscq.server.api.people.schemas import (
    ChangePage,
    PersonInfo,
    VisitDetail,
    VisitInfo,
    VisitPage,
    VisitsOfFaces,
)
from edge_stscq.server.api.schemas import ErrorAnswer, FaceInfo
from edge_stscq.server.auth.audit_log import annotate, faces_shown
from edge_stscq.server.auth.guard import Guard, Principal
from edge_stscq.server.auth.scope import Scope
from edge_stscq.server.persons.people import People
from edge_stscq.server.persons.rows import VisitPosition, VisitRow
from edge_stscq.server.storage.face_store import FaceName, undamaged

Number = Annotated[int, Path(ge=1, le=MAX_SEQUENCE)]
_CURSOR = r"^[0-9]{1,16}(\.[0-9]{1,20})?(e[+-]?[0-9]{1,3})?_[0-9]{1,16}$"


def routes(guard: Guard, people: People) -> APIRouter:
    """`GET /v1/visits`, `/v1/visits/changes` and `/v1/visits/{id}`."""
    router = APIRouter(prefix="/v1", responses={"4XX": {"model": ErrorAnswer}})
    reads = Depends(guard.require(Scope.READ))

    @router.get("/visits")
    def list_visits(
        request: Request,
        before: Annotated[str | None, Query(pattern=_CURSOR, max_length=60)] = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 60,
        device: Annotated[str | None, Query(pattern=rf"^{DEVICE_NAME}$")] = None,
        since: Moment = None,
        until: Moment = None,
        person: Annotated[int | None, Query(ge=1, le=MAX_SEQUENCE)] = None,
        hidden: bool = False,
        principal: Principal = reads,
    ) -> VisitPage:
        """List by when visits began, newest first."""
        if device is not None:
            principal.check_device(device)
        begin, end = (moment.timestamp() if moment else None for moment in (since, until))
        position = None
        if before is not None:
            began, _, number = before.partition("_")
            position = VisitPosition(float(began), int(number))
        rows = people.store.visits(
            limit + 1, position, device=device or principal.only_device, since=begin, until=end, person=person,
            hidden=hidden,
        )  # fmt: skip
        following = f"{rows[limit - 1].began!r}_{rows[limit - 1].id}" if len(rows) > limit else None
        shown = rows[:limit]
        _annotate(request, shown)
        return VisitPage(visits=_infos(people, shown), next=following)

    @router.get("/visits/changes")
    def list_changes(
        request: Request,
        after: Annotated[int | None, Query(ge=0, le=MAX_SEQUENCE)] = None,
        principal: Principal = reads,
    ) -> ChangePage:
        """List what changed after a revision, for a token of every device."""
        check_all_devices(principal)
        found = people.store.changes(after)
        _annotate(request, found.visits)
        return ChangePage(
            visits=_infos(people, found.visits), persons=list(map(PersonInfo.of, found.persons)),
            gone_visits=found.gone_visits, gone_persons=found.gone_persons, revision=found.revision, more=found.more,
            grouped=found.mark >= people.latest_revision(), passed=found.passed,
        )  # fmt: skip

    @router.get("/visits/of")
    def list_visits_of(
        request: Request,
        face: Annotated[list[str], Query(min_length=1, max_length=100, description="ids of faces")],
        principal: Principal = reads,
    ) -> VisitsOfFaces:
        """Tell which visits these faces are of, such as those that were found by example.

        Faces of devices that the token may not see are left out as those that there are not.
        """
        found = [one for one in map(people.find, face) if one is not None]
        stored = [one for one in found if principal.only_device in (None, one.device)]
        visits = people.store.visits_with(FaceName(one.stream, one.sequence) for one in stored)
        _annotate(request, visits)
        of = {visit.face_id(member): visit.id for visit in visits for member in visit.members}
        return VisitsOfFaces(visits=_infos(people, visits), of={one: of[one] for one in face if one in of})

    @router.get("/visits/{number}")
    def get_visit(request: Request, number: Number, principal: Principal = reads) -> VisitDetail:
        """One visit with its faces, the best first."""
        visit = people.store.visit(number)
        principal.check_device(visit.device)
        _annotate(request, [visit])
        (info,) = _infos(people, [visit])
        found = [people.find(visit.face_id(member)) for member in visit.members]
        members = [FaceInfo.of(face) for face in undamaged([one for one in found if one is not None])]
        return VisitDetail(**dict(info), members=members)

    return router


def check_all_devices(principal: Principal) -> None:
    """Raise `HTTPException` 403 for a token of one device: a person may have been seen by others."""
    if principal.only_device is not None:
        raise HTTPException(403, f"persons are of all devices, and this token is of {principal.only_device}")


def _infos(people: People, visits: list[VisitRow]) -> list[VisitInfo]:
    owners = people.store.owners(visit.person for visit in visits)
    return [VisitInfo.of(visit, owners.get(visit.person), people.grouper.watch(visit.id)) for visit in visits]


def _annotate(request: Request, visits: list[VisitRow]) -> None:
    names = (visit.face_id(member) for visit in visits for member in visit.members[:1])
    annotate(request, count=len(visits), faces=faces_shown(names))
