"""The route of decoded faces: cache, queue and decoder behind one address.

A picture is named by what it is painted from, so its `ETag` is known before it is painted: who has it already is
answered 304 without any decoding. The tag is weak, since a face painted in another batch may differ by a rounding.
Browsers may keep pictures, for their user alone, and must ask again before each use.

While the decoder is too far behind, a request is refused before anything else is done for it, cached pictures among
them: that takes a tenth of the time of looking a face up, and time is what the decoder lacks.
"""

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.requests import ClientDisconnect

from edge_stscq.server.audit import note
from edge_stscq.server.cache import ContentCache
from edge_stscq.server.guard import Caller, Guard
from edge_stscq.server.ingest import Ingest
from edge_stscq.server.painter import Painter
from edge_stscq.server.schemas import ErrorAnswer
from edge_stscq.server.tokens import Scope

Result = TypeVar("Result")


def pictures(guard: Guard, ingest: Ingest, painter: Painter, cache: ContentCache) -> APIRouter:
    """`GET /v1/faces/{id}.png`."""
    router = APIRouter(prefix="/v1", responses={"4XX": {"model": ErrorAnswer}})
    reads = Depends(guard.asks(Scope.READ))

    async def begins() -> float:
        """When the request came, by the event loop's clock: all that follows counts against the deadline."""
        if (refusal := painter.refusal()) is not None:
            raise refusal
        return asyncio.get_running_loop().time()

    @router.get("/faces/{face_id}.png", response_class=Response)
    async def get_face(
        arrived: Annotated[float, Depends(begins)],
        request: Request,
        face_id: str,
        layers: Annotated[int | None, Query(ge=1, le=3)] = None,
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
