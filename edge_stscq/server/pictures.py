"""The route of decoded faces: cache, queue and decoder behind one address.

A picture is named by what it is painted from, so its `ETag` is known before it is painted: who has it already is
answered 304 without any decoding. The tag is weak, since a face painted in another batch may differ by a rounding.
Browsers may keep pictures, for their user alone, and must ask again before each use.

While the decoder is too far behind, a request is refused before anything else is done for it, cached pictures among
them, outside of the routes: under a flood, refusing must cost next to nothing.
"""

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from edge_stscq.server.answers import busy_answer
from edge_stscq.server.audit import note
from edge_stscq.server.cache import ContentCache
from edge_stscq.server.guard import Caller, Guard
from edge_stscq.server.ingest import Ingest
from edge_stscq.server.painter import Painter
from edge_stscq.server.schemas import ErrorAnswer
from edge_stscq.server.tokens import Scope as TokenScope
from edge_stscq.stream.face import MAX_LAYERS

Result = TypeVar("Result")

FACE = "/v1/faces/{face_id}.png"


class RefuseEarly:
    """Middleware that answers requests for faces while `painter` refuses them.

    Who is let in counts as waiting from then on, so that a thousand who come at once do not all find an empty queue.
    """

    def __init__(self, app: ASGIApp, painter: Painter) -> None:
        self._app, self._painter, self._inside = app, painter, 0
        self._route = Route(FACE, app)  # by which a refusal is counted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].endswith(".png"):
            await self._app(scope, receive, send)
            return
        coming = max(0, self._inside - self._painter.under_way)
        if (busy := self._painter.refusal(coming=coming)) is not None:
            scope["route"] = self._route
            await busy_answer(f"busy: {busy}", busy.retry_after)(scope, receive, send)
            return
        self._inside += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._inside -= 1


def pictures(guard: Guard, ingest: Ingest, painter: Painter, cache: ContentCache) -> APIRouter:
    """`GET /v1/faces/{id}.png`."""
    router = APIRouter(prefix="/v1", responses={"4XX": {"model": ErrorAnswer}})
    reads = Depends(guard.asks(TokenScope.READ))

    async def begins() -> float:
        """When the request came, by the event loop's clock: all that follows counts against the deadline."""
        return asyncio.get_running_loop().time()

    @router.get(FACE.removeprefix("/v1"), response_class=Response)
    async def get_face(
        arrived: Annotated[float, Depends(begins)],
        request: Request,
        face_id: str,
        layers: Annotated[int | None, Query(ge=1, le=MAX_LAYERS)] = None,
        caller: Caller = reads,
    ) -> Response:
        caller.check_device(face_id.rpartition("-")[0])
        order = await asyncio.to_thread(ingest.order, face_id, layers)
        note(request, face=face_id, layers=order.job.layers)
        key, tag = order.key, f'W/"{order.key}"'
        headers = {"ETag": tag, "Cache-Control": "private, no-cache", "Edge-Layers": str(order.job.layers)}
        if tag in [known.strip() for known in request.headers.get("if-none-match", "").split(",")]:
            return Response(status_code=304, headers=headers)
        png = await _while_connected(request, cache.get(key, lambda: painter.submit(order, arrived)))
        return Response(png, media_type="image/png", headers=headers)

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
