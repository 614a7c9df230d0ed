"""The web application: routes, and how every failure becomes one line of JSON.

    POST /v1/frames              a stream (file header and frames); acknowledged once on disk
    GET  /v1/faces               what is stored, page by page, by `?device=`, `?since=` and `?until=` if given
    GET  /v1/faces/{id}.png      a face, painted from all its layers or from `?layers=1..3`
    POST /v1/match               the stored faces most like one
    GET  /v1/devices             what each device has sent, and when
    WS   /v1/live                faces as they come
    GET  /v1/models              the models whose frames are accepted
    GET  /                       the gallery page
    GET  /metrics                for Prometheus
    GET  /openapi.json           the routes, for programs
    GET  /health, /ready         for supervisors and balancers; never ask for a token

A route names the scope of the token it asks for as a dependency: `Depends(guard.asks(Scope.READ))`.
`create_app` opens the models and the store and raises `EdgeError` if either is unusable; nothing is global, so an
application may be mounted, tested or replicated freely.
"""

import asyncio
import logging
import math
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from fastapi.responses import JSONResponse
from pydantic import AwareDatetime
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect

from edge_stscq import __version__
from edge_stscq.errors import EdgeError
from edge_stscq.server.audit import Audit, note
from edge_stscq.server.batching import BusyError, MicroBatcher
from edge_stscq.server.cache import ContentCache
from edge_stscq.server.database import StoreError
from edge_stscq.server.decode_service import to_png
from edge_stscq.server.feed import Feed
from edge_stscq.server.gallery import add_page, device_routes
from edge_stscq.server.guard import Caller, Guard, open_tokens
from edge_stscq.server.headers import SECURITY_HEADERS, SecurityHeaders
from edge_stscq.server.index import FaceIndexes
from edge_stscq.server.ingest import Ingest, NoFaceError, TooManyFramesError
from edge_stscq.server.live import Seats, live_routes
from edge_stscq.server.match import keep_current, match_routes
from edge_stscq.server.metrics import CountRequests, Metrics, metrics_routes
from edge_stscq.server.models import Models, WrongModelError
from edge_stscq.server.painter import Painter
from edge_stscq.server.pictures import pictures
from edge_stscq.server.schemas import ErrorAnswer, FaceInfo, FacePage, ModelInfo, ModelList, Receipt, State
from edge_stscq.server.settings import ServerSettings
from edge_stscq.server.store import MAX_SEQUENCE, ConflictError, FaceStore
from edge_stscq.server.tokens import DEVICE_NAME, Scope

log = logging.getLogger(__name__)

STALLED_SECONDS = 60.0
"""A batch that runs longer than this makes /health red."""
FAILED_BATCHES = 3
"""As many batches in a row without one good result make /health red."""
STATUS = {ConflictError: 409, WrongModelError: 409, NoFaceError: 404, TooManyFramesError: 413}
"""Answers to bad input; 400 for the rest."""

Device = Annotated[str, Header(alias="Edge-Device", pattern=rf"^{DEVICE_NAME}$")]
Sequence = Annotated[int, Header(alias="Edge-Sequence", ge=0, le=MAX_SEQUENCE)]
Moment = Annotated[AwareDatetime | None, Query(description="ISO 8601 with an offset or Z, or seconds since 1970 UTC")]


def create_app(settings: ServerSettings, painter: Painter | None = None) -> FastAPI:
    """Build the application.

    Args:
        painter: who decodes; None is this process, on the device of the settings.

    Raises:
        EdgeError: a model folder, the store or the tokens cannot be used, or a public host has no valid token.
    """
    models = Models(settings.model, settings.device if painter is None else "cpu", settings.max_batch)
    tokens = open_tokens(settings)
    store = FaceStore(settings.store)
    guard = Guard(settings, tokens)
    ingest = Ingest(models, store, settings.max_frames)
    feed, seats, metrics = Feed(store), Seats(settings.live_clients), Metrics(store)
    indexes = FaceIndexes(models, settings.match_faces)
    batcher = painter or MicroBatcher(
        metrics.timed(models.paint), to_png, max_batch=models.max_batch, max_delay=settings.batch_delay,
        queue_size=settings.queue_size, deadline=settings.deadline,
    )  # fmt: skip

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            if painter is None:
                await asyncio.to_thread(models.warm_up)
            async with batcher, feed:
                indexing = asyncio.create_task(keep_current(indexes, feed, settings.match_faces), name="index")
                try:
                    yield
                finally:
                    indexing.cancel()
                    await asyncio.gather(indexing, return_exceptions=True)
        finally:
            store.close()
            tokens.close()

    app = FastAPI(title="edge-stscq", version=__version__, lifespan=lifespan, openapi_url=None)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(Audit)
    app.add_middleware(CountRequests, metrics=metrics)
    app.state.models, app.state.store, app.state.batcher, app.state.guard = models, store, batcher, guard
    metrics.watch("decode_queue_faces", "faces that wait for the decoder", lambda: batcher.waiting)
    metrics.watch("live_clients", "clients that follow the feed", lambda: seats.taken)
    metrics.watch("index_faces", "faces that can be found by example", lambda: len(indexes))
    app.include_router(_frames(settings, guard, models, store, ingest, feed, metrics))
    app.include_router(pictures(guard, ingest, batcher, ContentCache(settings.cache_bytes)))
    app.include_router(match_routes(guard, ingest, store, indexes, feed))
    app.include_router(device_routes(guard, store))
    app.include_router(live_routes(guard, feed, seats))
    app.include_router(metrics_routes(guard, metrics))
    app.include_router(_probes(store, batcher))
    add_page(app)

    @app.get("/openapi.json", include_in_schema=False, dependencies=[Depends(guard.asks(Scope.ADMIN))])
    def get_schema() -> dict[str, Any]:
        return app.openapi()

    _one_line_errors(app)
    return app


def _frames(
    settings: ServerSettings, guard: Guard, models: Models, store: FaceStore, ingest: Ingest, feed: Feed,
    metrics: Metrics,
) -> APIRouter:  # fmt: skip
    """The routes of frames, of lists and of models."""
    router = APIRouter(prefix="/v1", responses={"4XX": {"model": ErrorAnswer}})
    sends, reads = Depends(guard.asks(Scope.SEND)), Depends(guard.asks(Scope.READ))

    @router.post("/frames")
    async def post_frames(
        request: Request, edge_device: Device, edge_sequence: Sequence, caller: Caller = sends
    ) -> Receipt:
        note(request, device=edge_device, first=edge_sequence)
        with metrics.counting_refusals():
            caller.check_device(edge_device)
            body = await guard.body(request, caller)
            receipt = await asyncio.to_thread(ingest.accept, edge_device, edge_sequence, body)
        metrics.accepted(receipt, len(body))
        feed.nudge()
        note(request, **receipt.model_dump())
        return receipt

    @router.get("/faces")
    def list_faces(
        request: Request,
        after: Annotated[int, Query(ge=0, le=MAX_SEQUENCE)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        device: Annotated[str | None, Query(pattern=rf"^{DEVICE_NAME}$")] = None,
        since: Moment = None,
        until: Moment = None,
        caller: Caller = reads,
    ) -> FacePage:
        if device is not None:
            caller.check_device(device)
        begin, end = (moment.timestamp() if moment else None for moment in (since, until))
        rows = store.page(after, limit + 1, device or caller.only_device, begin, end)
        note(request, after=after, count=min(limit, len(rows)))
        return FacePage(
            faces=[FaceInfo.of(row) for row in rows[:limit]], next=rows[limit - 1].row if len(rows) > limit else None
        )

    @router.get("/models", dependencies=[Depends(guard.asks(*Scope))])
    def get_models() -> ModelList:
        return ModelList(models=[ModelInfo.of(service, settings.device) for service in models])

    return router


def _probes(store: FaceStore, batcher: Painter) -> APIRouter:
    """Liveness (restart me when red) and readiness (send me work when green)."""
    router = APIRouter()

    def answer(reason: str | None) -> JSONResponse:
        state = State(ok=reason is None, reason=reason)
        return JSONResponse(state.model_dump(), 200 if state.ok else 503)

    def trouble() -> str | None:
        if not batcher.running:
            return "the decoder's queue is not running"
        if batcher.batch_seconds > STALLED_SECONDS:
            return f"a batch has been running for {batcher.batch_seconds:.0f} seconds"
        if batcher.failed_batches >= FAILED_BATCHES:
            return f"the last {batcher.failed_batches} batches failed"
        return None

    @router.get("/health", response_model=State)
    async def health() -> JSONResponse:
        return answer(trouble())

    @router.get("/ready", response_model=State)
    async def ready() -> JSONResponse:
        reason = trouble() or (str(refusal) if (refusal := batcher.refusal()) else None)
        if reason is None:
            await asyncio.to_thread(store.check_writable)
        return answer(reason)

    return router


def _one_line_errors(app: FastAPI) -> None:
    """Every refusal is `{"error": "one line"}`."""

    def refuse(status: int, message: object, headers: Mapping[str, str] | None = None) -> JSONResponse:
        return JSONResponse({"error": " ".join(str(message).split())}, status, headers)

    def later(message: object, seconds: float = 1) -> JSONResponse:
        return refuse(503, message, {"Retry-After": str(max(1, math.ceil(seconds)))})

    @app.exception_handler(StarletteHTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        return refuse(error.status_code, error.detail, error.headers)

    @app.exception_handler(RequestValidationError)
    @app.exception_handler(WebSocketRequestValidationError)
    async def invalid(
        request: Request, error: RequestValidationError | WebSocketRequestValidationError
    ) -> JSONResponse:
        first = error.errors()[0]
        return refuse(422, f"{first['loc'][-1]}: {first['msg']}")

    @app.exception_handler(EdgeError)
    async def bad_input(request: Request, error: EdgeError) -> JSONResponse:
        return refuse(next((status for kind, status in STATUS.items() if isinstance(error, kind)), 400), error)

    @app.exception_handler(BusyError)
    async def busy(request: Request, error: BusyError) -> JSONResponse:
        return later(f"busy: {error}", error.retry_after)

    @app.exception_handler(StoreError)
    @app.exception_handler(sqlite3.Error)
    async def store_failed(request: Request, error: StoreError | sqlite3.Error) -> JSONResponse:
        log.error("the store failed: %s", error)
        return later("the store cannot be used now; the server's log says why")

    @app.exception_handler(ClientDisconnect)
    async def disconnected(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=499)

    @app.exception_handler(Exception)
    async def defect(request: Request, error: Exception) -> JSONResponse:
        return refuse(500, "internal error; the server's log has the details", SECURITY_HEADERS)
