"""Route of decoded faces: cache, queue and decoder behind one address.

A picture is named by what it is decoded from, so its `ETag` is known before it is decoded: who has it already is
answered 304 without any decoding. The tag is weak, since a face decoded in another batch may differ by a rounding.
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

from edge_stscq.server.api.schemas import ErrorAnswer
from edge_stscq.server.auth.audit_log import annotate
from edge_stscq.server.auth.guard import Guard, Principal
from edge_stscq.server.auth.tokens import Scope as TokenScope
from edge_stscq.server.decoding.backend import DecoderBackend
from edge_stscq.server.decoding.cache import SingleFlightCache
from edge_stscq.server.errors import busy_response
from edge_stscq.server.ingest import Ingest

Result = TypeVar("Result")

FACE = "/v1/faces/{face_id}.png"


class LoadSheddingMiddleware:
    """Middleware that answers requests for faces while `backend` refuses them.

    Who is let in counts as waiting from then on, so that a thousand who come at once do not all find an empty queue.
    """

    def __init__(self, app: ASGIApp, backend: DecoderBackend) -> None:
        self._app, self._backend, self._in_flight = app, backend, 0
        self._route = Route(FACE, app)  # by which a refusal is counted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].endswith(".png"):
            await self._app(scope, receive, send)
            return
        admitted_ahead = max(0, self._in_flight - self._backend.in_flight)
        if (busy := self._backend.rejection(queued_ahead=admitted_ahead)) is not None:
            scope["route"] = self._route
            await busy_response(f"busy: {busy}", busy.retry_after)(scope, receive, send)
            return
        self._in_flight += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._in_flight -= 1


def pictures(guard: Guard, ingest: Ingest, backend: DecoderBackend, cache: SingleFlightCache) -> APIRouter:
    """`GET /v1/faces/{id}.png`."""
    router = APIRouter(prefix="/v1", responses={"4XX": {"model": ErrorAnswer}})
    reads = Depends(guard.require(TokenScope.READ))

    async def arrival() -> float:
        """When the request came, by the event loop's clock: all that follows counts against the deadline."""
        return asyncio.get_running_loop().time()

    @router.get(FACE.removeprefix("/v1"), response_class=Response)
    async def get_face(
        arrived: Annotated[float, Depends(arrival)],
        request: Request,
        face_id: str,
        layers: Annotated[int | None, Query(ge=1, le=3)] = None,
        principal: Principal = reads,
    ) -> Response:
        principal.check_device(face_id.rpartition("-")[0])
        order = await asyncio.to_thread(ingest.order, face_id, layers)
        annotate(request, face=face_id, layers=order.job.layers)
        key, tag = order.key, f'W/"{order.key}"'
        headers = {"ETag": tag, "Cache-Control": "private, no-cache", "Edge-Layers": str(order.job.layers)}
        if tag in [known.strip() for known in request.headers.get("if-none-match", "").split(",")]:
            return Response(status_code=304, headers=headers)
        png = await _while_connected(request, cache.get_or_create(key, lambda: backend.submit(order, arrived)))
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
