"""The web application: routes, and how every failure becomes one line of JSON.

    POST /v1/frames              a stream (file header and frames); acknowledged once on disk
    GET  /v1/faces               what is stored, page by page
    GET  /v1/faces/{id}.png      a face, painted from all its layers or from `?layers=1..3`
    POST /v1/match               the stored faces most like one
    GET  /v1/devices             what each device has sent, and when
    WS   /v1/live                faces as they come
    GET  /v1/model               the model whose frames are accepted
    GET  /                       the gallery page
    GET  /metrics                for Prometheus
    GET  /openapi.json           the routes, for programs
    GET  /health, /ready         for supervisors and balancers; never ask for a token

A route names the scope of the token it asks for as a dependency: `Depends(guard.asks(Scope.READ))`.
`create_app` opens the model and the store and raises `EdgeError` if either is unusable; nothing is global, so an
application may be mounted, tested or replicated freely.
"""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect

from edge_stscq import __version__
from edge_stscq.errors import EdgeError
from edge_stscq.server.audit import Audit, note
from edge_stscq.server.batching import BusyError, MicroBatcher
from edge_stscq.server.decode_service import DecodeService, Job
from edge_stscq.server.feed import Feed
from edge_stscq.server.gallery import add_page, device_routes
from edge_stscq.server.guard import Caller, Guard, open_tokens
from edge_stscq.server.headers import SECURITY_HEADERS, SecurityHeaders
from edge_stscq.server.index import FaceIndex
from edge_stscq.server.ingest import Ingest, NoFaceError, TooManyFramesError, WrongModelError
from edge_stscq.server.live import Seats, live_routes
from edge_stscq.server.match import keep_current, match_routes
from edge_stscq.server.metrics import CountRequests, Metrics, metrics_routes
from edge_stscq.server.schemas import ErrorAnswer, FaceInfo, FacePage, ModelInfo, Receipt, State
from edge_stscq.server.settings import ServerSettings
from edge_stscq.server.store import MAX_SEQUENCE, ConflictError, FaceStore
from edge_stscq.server.tokens import DEVICE_NAME, Scope

log = logging.getLogger(__name__)

STALLED_SECONDS = 60.0
"""A batch that runs longer than this makes /health red."""
FAILED_BATCHES = 3
"""As many batches in a row without one good result make /health red."""
RETRY_SECONDS = "1"
"""What a refused client is told to wait."""
STATUS = {ConflictError: 409, WrongModelError: 409, NoFaceError: 404, TooManyFramesError: 413}
"""Answers to bad input; 400 for the rest."""

Result = TypeVar("Result")
Device = Annotated[str, Header(alias="Edge-Device", pattern=rf"^{DEVICE_NAME}$")]
Sequence = Annotated[int, Header(alias="Edge-Sequence", ge=0, le=MAX_SEQUENCE)]


def create_app(settings: ServerSettings) -> FastAPI:
    """Build the application.

    Raises:
        EdgeError: the model folder, the store or the tokens cannot be used, or a public host has no valid token.
    """
    service = DecodeService(settings.model, settings.device)
    tokens = open_tokens(settings)
    store = FaceStore(settings.store)
    guard = Guard(settings, tokens)
    ingest = Ingest(service, store, settings.max_frames)
    feed, seats, metrics = Feed(store), Seats(settings.live_clients), Metrics(store)
    index = FaceIndex(settings.model, service.codec, settings.match_faces)
    batcher: MicroBatcher[Job, bytes] = MicroBatcher(
        metrics.timed(service.paint_png), settings.max_batch, settings.batch_delay, settings.queue_size
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            await asyncio.to_thread(service.warm_up)
            async with batcher, feed:
                indexing = asyncio.create_task(keep_current(index, feed, settings.match_faces), name="index")
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
    app.state.service, app.state.store, app.state.batcher, app.state.guard = service, store, batcher, guard
    metrics.watch("decode_queue_faces", "faces that wait for the decoder", lambda: batcher.waiting)
    metrics.watch("live_clients", "clients that follow the feed", lambda: seats.taken)
    metrics.watch("index_faces", "faces that can be found by example", lambda: len(index))
    app.include_router(_frames(guard, ingest, service, store, batcher, feed, metrics))
    app.include_router(match_routes(guard, ingest, store, index, feed))
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
    guard: Guard, ingest: Ingest, service: DecodeService, store: FaceStore, batcher: MicroBatcher[Job, bytes],
    feed: Feed, metrics: Metrics,
) -> APIRouter:  # fmt: skip
    """The /v1 routes."""
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
        caller: Caller = reads,
    ) -> FacePage:
        rows = store.page(after, limit + 1, caller.only_device)
        note(request, after=after, count=min(limit, len(rows)))
        return FacePage(
            faces=[FaceInfo.of(row) for row in rows[:limit]], next=rows[limit - 1].row if len(rows) > limit else None
        )

    @router.get("/faces/{face_id}.png", response_class=Response)
    async def get_face(
        request: Request,
        face_id: str,
        layers: Annotated[int | None, Query(ge=1, le=3)] = None,
        caller: Caller = reads,
    ) -> Response:
        caller.check_device(face_id.rpartition("-")[0])
        job = await asyncio.to_thread(ingest.job, face_id, layers)
        note(request, face=face_id, layers=job.layers)
        png = await _while_connected(request, batcher.submit(job))
        return Response(png, media_type="image/png", headers={"Edge-Layers": str(job.layers)})

    @router.get("/model", dependencies=[Depends(guard.asks(*Scope))])
    def get_model() -> ModelInfo:
        return ModelInfo(
            name=service.config.name, model_id=service.model_id.hex(), device=service.device,
            precision=service.precision, config=service.config,
        )  # fmt: skip

    return router


def _probes(store: FaceStore, batcher: MicroBatcher[Job, bytes]) -> APIRouter:
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
        reason = trouble() or ("the decoder's queue is full" if batcher.full else None)
        if reason is None:
            await asyncio.to_thread(store.check_writable)
        return answer(reason)

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


def _one_line_errors(app: FastAPI) -> None:
    """Every refusal is `{"error": "one line"}`."""

    def refuse(status: int, message: object, headers: Mapping[str, str] | None = None) -> JSONResponse:
        return JSONResponse({"error": " ".join(str(message).split())}, status, headers)

    def later(message: object) -> JSONResponse:
        return refuse(503, message, {"Retry-After": RETRY_SECONDS})

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
        return later(f"busy: {error}")

    @app.exception_handler(sqlite3.Error)
    async def store_failed(request: Request, error: sqlite3.Error) -> JSONResponse:
        log.error("the store failed: %s", error)
        return later(f"the store cannot be used now: {error}")

    @app.exception_handler(ClientDisconnect)
    async def disconnected(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=499)

    @app.exception_handler(Exception)
    async def defect(request: Request, error: Exception) -> JSONResponse:
        return refuse(500, "internal error; the server's log has the details", SECURITY_HEADERS)
