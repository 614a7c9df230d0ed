"""Routes of the persons: listed, named, hidden, merged, split, enrolled, forgotten, and each edit undone."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request

from edge_stscq.protocol import MAX_SEQUENCE
from edge_stscq.server.api.people.schemas import (
    EditedPerson,
    EnrolledPerson,
    Featuring,
    Forgotten,
    Hiding,
    LikelyPerson,
    Merging,
    Naming,
    PersonDetail,
    PersonInfo,
    PersonPage,
    Splitting,
    Undoing,
    UndoneEdit,
)
from edge_stscq.server.api.people.visits import check_all_devices
from edge_stscq.server.api.schemas import ErrorAnswer
from edge_stscq.server.auth.audit_log import annotate
from edge_stscq.server.auth.guard import Guard, Principal
from edge_stscq.server.auth.scope import Scope
from edge_stscq.server.persons.editing import MAX_NAME, Edited
from edge_stscq.server.persons.people import People
from edge_stscq.server.persons.reading import Enrolled
from edge_stscq.server.pictures.encoder import PictureEncoder
from edge_stscq.server.storage.change_feed import ChangeFeed
from edge_stscq.server.storage.face_store import FaceName

Number = Annotated[int, Path(ge=1, le=MAX_SEQUENCE)]


def routes(
    guard: Guard, people: People, feed: ChangeFeed, pictures: PictureEncoder | None, max_picture_bytes: int
) -> APIRouter:
    """Everything under `/v1/persons`."""
    router = APIRouter(prefix="/v1/persons", responses={"4XX": {"model": ErrorAnswer}})
    reads, writes, erases = (Depends(guard.require(one)) for one in (Scope.READ, Scope.EDIT, Scope.DELETE))

    @router.get("")
    def list_persons(
        request: Request,
        after: Annotated[int | None, Query(ge=1, le=MAX_SEQUENCE)] = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 60,
        named: bool | None = None,
        hidden: bool = False,
        q: Annotated[str | None, Query(max_length=MAX_NAME, description="part of the name")] = None,
        principal: Principal = reads,
    ) -> PersonPage:
        """List persons, the newest first."""
        check_all_devices(principal)
        rows = people.store.persons(limit + 1, after, named=named, hidden=hidden, part=q)
        annotate(request, count=min(limit, len(rows)))
        following = rows[limit - 1].id if len(rows) > limit else None
        return PersonPage(persons=list(map(PersonInfo.of, rows[:limit])), next=following)

    @router.post("/undo")
    def undo(request: Request, given: Undoing, principal: Principal = writes) -> UndoneEdit:
        """Take an edit back, the last if none is named."""
        check_all_devices(principal)
        done = people.store.undo(given.edit)
        annotate(request, edit=done.edit)
        return UndoneEdit(edit=done.edit, undone=done.undone)

    @router.post("/enroll")
    async def enroll(
        request: Request,
        name: Annotated[str, Query(min_length=1, max_length=MAX_NAME)],
        person: Annotated[int | None, Query(ge=1, le=MAX_SEQUENCE)] = None,
        principal: Principal = writes,
    ) -> EnrolledPerson:
        """Put the largest face of a JPEG, PNG or WebP file on the watch list; the picture is not kept."""
        check_all_devices(principal)
        if pictures is None:
            raise HTTPException(503, "this server codes no pictures; start it with --bundle")
        pictures.check_free()
        seen = await pictures.encode(await guard.body(request, principal, max_picture_bytes))
        annotate(request, picture="refused" if seen.face is None else "coded")
        if seen.face is None:
            raise HTTPException(422, seen.reason)
        payload = people.grouper.payload(seen.model_id, seen.face)
        photo = Enrolled(seen.model_id, seen.face.layers, payload, seen.quality)
        done = await asyncio.to_thread(people.store.enroll, name, [photo], person)
        annotate(request, edit=done.edit, person=done.person)
        row = await asyncio.to_thread(people.store.person, done.person)
        return EnrolledPerson(
            edit=done.edit, person=PersonInfo.of(row), quality=seen.quality, box=seen.box, faces_in_picture=seen.faces
        )

    @router.get("/{number}")
    def get_person(request: Request, number: Number, principal: Principal = reads) -> PersonDetail:
        """One person, and others who may be the same."""
        check_all_devices(principal)
        row, others = people.store.person(number), people.grouper.likely(number)
        annotate(request, person=number)
        owners = people.store.owners(one.person for one in others)
        perhaps = [
            LikelyPerson(person=one.person, name=owners[one.person].name, score=one.score, verdict=one.verdict)
            for one in others
            if one.person in owners
        ]
        return PersonDetail(**dict(PersonInfo.of(row)), perhaps=perhaps)

    @router.post("/{number}/name")
    def name(request: Request, number: Number, given: Naming, principal: Principal = writes) -> EditedPerson:
        """Give a person a name, or none."""
        check_all_devices(principal)
        return answer(request, people.store.name(number, given.name))

    @router.post("/{number}/hide")
    def hide(request: Request, number: Number, given: Hiding, principal: Principal = writes) -> EditedPerson:
        """Leave a person out of lists, or not any more."""
        check_all_devices(principal)
        return answer(request, people.store.hide(number, given.hidden))

    @router.post("/{number}/feature")
    def feature(request: Request, number: Number, given: Featuring, principal: Principal = writes) -> EditedPerson:
        """Show a person by a face of one of the visits, or by the best."""
        check_all_devices(principal)
        face = None
        if given.face is not None:
            stored = people.find(given.face)
            if stored is None:
                raise HTTPException(404, f"there is no face {given.face}")
            face = FaceName(stored.stream, stored.sequence)
        return answer(request, people.store.feature(number, face))

    @router.post("/{number}/merge")
    def merge(request: Request, number: Number, given: Merging, principal: Principal = writes) -> EditedPerson:
        """Make the visits of others this person's."""
        check_all_devices(principal)
        return answer(request, people.store.merge(number, given.others))

    @router.post("/{number}/split")
    def split(request: Request, number: Number, given: Splitting, principal: Principal = writes) -> EditedPerson:
        """Make some of a person's visits those of a new one, who is answered."""
        check_all_devices(principal)
        return answer(request, people.store.split(number, given.visits))

    @router.delete("/{number}")
    def forget(request: Request, number: Number, principal: Principal = erases) -> Forgotten:
        """Erase a person for good: faces, enrollments, name, and what was noted of edits."""
        check_all_devices(principal)
        annotate(request, person=number)
        return Forgotten(forgotten=number, faces=people.store.forget(number))

    def answer(request: Request, done: Edited) -> EditedPerson:
        annotate(request, edit=done.edit, person=done.person)
        return EditedPerson(edit=done.edit, person=PersonInfo.of(people.store.person(done.person)))

    return router
