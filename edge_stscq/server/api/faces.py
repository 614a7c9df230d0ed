"""Routes of the stored faces: their list, and the picture of each.

A picture is named by what it is decoded from, so its `ETag` is known before it is decoded: who has it already is
answered 304 without any decoding. The tag is weak, since a face decoded in another batch may differ by a rounding.
Browsers may keep pictures, for their user alone, and must ask again before each use.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import AwareDatetime
from starlette.requests import ClientDisconnect

from edge_stscq._limits import MAX_LAYERS
from edge_stscq.protocol import DEVICE_NAME, MAX_SEQUENCE
from edge_stscq.server.api.schemas import Erased, ErrorAnswer, FaceInfo, FacePage, NewestPage
from edge_stscq.server.auth.audit_log import annotate, faces_shown
from edge_stscq.server.auth.guard import Guard, Principal
from edge_stscq.server.auth.scope import Scope
from edge_stscq.server.decoding.backend import DecoderBackend
from edge_stscq.server.decoding.cache import SingleFlightCache
from edge_stscq.server.decoding.resolver import RequestResolver
from edge_stscq.server.middleware import Admission
from edge_stscq.server.storage.change_feed import ChangeFeed
from edge_stscq.server.storage.database import StoreError
from edge_stscq.server.storage.face_store import STREAM_NAME, FaceName, FaceStore, Position, StoredFace, undamaged

log = logging.getLogger(__name__)

Result = TypeVar("Result")

IMAGE_PATH = "/v1/faces/{face_id}.png"
Moment = Annotated[AwareDatetime | None, Query(description="ISO 8601 with an offset or Z, or seconds since 1970 UTC")]


def list_routes(guard: Guard, store: FaceStore) -> APIRouter:
    """`GET /v1/faces`."""
    router = APIRouter(prefix="/v1", responses={"4XX": {"model": ErrorAnswer}})
    reads = Depends(guard.require(Scope.READ))

    @router.get("/faces")
    def list_faces(
        request: Request,
        after: Annotated[int, Query(ge=0, le=MAX_SEQUENCE)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        device: Annotated[str | None, Query(pattern=rf"^{DEVICE_NAME}$")] = None,
        since: Moment = None,
        until: Moment = None,
        principal: Principal = reads,
    ) -> FacePage:
        if device is not None:
            principal.check_device(device)
        begin, end = (moment.timestamp() if moment else None for moment in (since, until))
        rows = store.page(after, limit + 1, device or principal.only_device, begin, end)
        annotate(request, after=after, count=min(limit, len(rows)), faces=faces_shown(row.id for row in rows[:limit]))
        following = rows[limit - 1].row if len(rows) > limit else None
        return FacePage(faces=[FaceInfo.of(face) for face in undamaged(rows[:limit])], next=following)

    @router.get("/faces/newest")
    def list_newest(
        request: Request,
        before: Annotated[str | None, Query(pattern=_CURSOR, max_length=60)] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        device: Annotated[str | None, Query(pattern=rf"^{DEVICE_NAME}$")] = None,
        since: Moment = None,
        until: Moment = None,
        principal: Principal = reads,
    ) -> NewestPage:
        """List by time of capture, newest first; `since` and `until` are such times, too.

        A face whose device gave no time counts from when it was received.
        """
        if device is not None:
            principal.check_device(device)
        begin, end = (moment.timestamp() if moment else None for moment in (since, until))
        position = None if before is None else _position(before)
        rows = store.newest(limit + 1, position, device or principal.only_device, begin, end)
        annotate(request, count=min(limit, len(rows)), faces=faces_shown(row.id for row in rows[:limit]))
        following = f"{rows[limit - 1].occurred!r}_{rows[limit - 1].row}" if len(rows) > limit else None
        return NewestPage(faces=[FaceInfo.of(face) for face in undamaged(rows[:limit])], next=following)

    return router


_CURSOR = r"^[0-9]{1,16}(\.[0-9]{1,20})?(e[+-]?[0-9]{1,3})?_[0-9]{1,16}$"


def _position(cursor: str) -> Position:
    occurred, row = cursor.split("_")
    return Position(float(occurred), int(row))


async def find_permitted(resolver: RequestResolver, principal: Principal, face_id: str) -> StoredFace:
    """A stored face, if it is of a device that the caller may see.

    Raises:
        HTTPException: 403, it is of another device. A name that holds the device is refused before it is looked for, so
            that nobody learns which faces exist.
        NoFaceError: it is unknown.
    """
    stream = face_id.rpartition("-")[0]
    if not STREAM_NAME.fullmatch(stream):
        principal.check_device(stream)
    stored = await asyncio.to_thread(resolver.find, face_id)
    principal.check_device(stored.device)
    return stored


def image_routes(
    guard: Guard, resolver: RequestResolver, backend: DecoderBackend, cache: SingleFlightCache, admission: Admission
) -> APIRouter:
    """`GET /v1/faces/{id}.png`."""
    router = APIRouter(prefix="/v1", responses={"4XX": {"model": ErrorAnswer}})
    reads = Depends(guard.require(Scope.READ))

    async def arrival() -> float:
        """Arrival of the request by the event loop's clock: all that follows counts against the deadline."""
        return asyncio.get_running_loop().time()

    @router.get(IMAGE_PATH.removeprefix("/v1"), response_class=Response)
    async def get_face(
        arrived: Annotated[float, Depends(arrival)],
        request: Request,
        face_id: str,
        layers: Annotated[int | None, Query(ge=1, le=MAX_LAYERS)] = None,
        principal: Principal = reads,
    ) -> Response:
        with admission.hold():
            return await answer(arrived, request, face_id, layers, principal)

    async def answer(
        arrived: float, request: Request, face_id: str, layers: int | None, principal: Principal
    ) -> Response:
        stored = await find_permitted(resolver, principal, face_id)
        wanted = await asyncio.to_thread(resolver.for_face, stored, layers)
        annotate(request, face=face_id, layers=wanted.layers)
        key, tag = wanted.key, f'W/"{wanted.key}"'
        headers = {"ETag": tag, "Cache-Control": "private, no-cache", "Edge-Layers": str(wanted.layers)}
        if tag in [known.strip() for known in request.headers.get("if-none-match", "").split(",")]:
            return Response(status_code=304, headers=headers)
        png = await _while_connected(request, cache.get_or_create(key, lambda: backend.submit(wanted, arrived)))
        return Response(png, media_type="image/png", headers=headers)

    return router


def erase_routes(guard: Guard, resolver: RequestResolver, store: FaceStore, feed: ChangeFeed) -> APIRouter:
    """`DELETE /v1/faces/{id}`."""
    router = APIRouter(prefix="/v1", responses={"4XX": {"model": ErrorAnswer}})
    deletes = Depends(guard.require(Scope.DELETE))

    @router.delete("/faces/{face_id}")
    async def erase_face(request: Request, face_id: str, principal: Principal = deletes) -> Erased:
        """Erase a face for good: further layers that a camera still has of it are answered `erased`."""
        stored = await find_permitted(resolver, principal, face_id)
        annotate(request, face=stored.id)
        await asyncio.to_thread(store.erase, [FaceName(stored.stream, stored.sequence)])
        feed.notify()
        try:
            await asyncio.to_thread(store.scrub)
        except StoreError as error:
            log.warning("%s is erased, and not overwritten yet: %s", stored.id, error)
            return Erased(erased=stored.id, overwritten=False)
        return Erased(erased=stored.id, overwritten=True)

    return router


async def _while_connected(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Await `work`, and cancel it when the client hangs up.

    Raises:
        ClientDisconnect: the client is gone.
    """

    async def hung_up() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    task, gone = asyncio.create_task(work), asyncio.create_task(hung_up())
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return await task
    finally:
        task.cancel()
        gone.cancel()
