"""The web application: routes, and how every failure becomes one line of JSON.

    POST /v1/frames              a stream (file header and frames); acknowledged once on disk
    GET  /v1/faces               what is stored, page by page, by `?device=`, `?since=` and `?until=` if given
    GET  /v1/faces/{id}.png      a face, painted from all its layers or from the first of them, `?layers=N`
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
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.responses import JSONResponse
from pydantic import AwareDatetime

from edge_stscq import __version__
from edge_stscq.server.answers import one_line_errors
from edge_stscq.server.audit import Audit, note
from edge_stscq.server.batching import MicroBatcher
from edge_stscq.server.cache import ContentCache
from edge_stscq.server.census import Census
from edge_stscq.server.decode_service import to_png
from edge_stscq.server.feed import Feed
from edge_stscq.server.frames import frame_routes
from edge_stscq.server.gallery import add_page, device_routes
from edge_stscq.server.guard import Caller, Guard, open_tokens
from edge_stscq.server.headers import SecurityHeaders
from edge_stscq.server.index import FaceIndexes
from edge_stscq.server.ingest import Ingest
from edge_stscq.server.live import Seats, live_routes
from edge_stscq.server.match import keep_current, match_routes
from edge_stscq.server.metrics import CountRequests, Metrics, metrics_routes
from edge_stscq.server.models import Models
from edge_stscq.server.painter import Paint, Painter
from edge_stscq.server.pictures import RefuseEarly, pictures
from edge_stscq.server.policy import policy_of
from edge_stscq.server.schemas import ErrorAnswer, FaceInfo, FacePage, ModelInfo, ModelList, State
from edge_stscq.server.settings import ServerSettings
from edge_stscq.server.store import MAX_SEQUENCE, FaceStore
from edge_stscq.server.tokens import DEVICE_NAME, Scope
from edge_stscq.server.turnstile import Turnstile

log = logging.getLogger(__name__)

STALLED_SECONDS = 60.0
"""A batch that runs longer than this makes /health red."""
FAILED_BATCHES = 3
"""As many batches in a row without one good result make /health red."""
POSTS_A_COMMIT = 16
"""Requests whose frames are stored in one commit, at most."""

Moment = Annotated[AwareDatetime | None, Query(description="ISO 8601 with an offset or Z, or seconds since 1970 UTC")]


def create_app(settings: ServerSettings, painter: Painter | None = None, paint: Paint | None = None) -> FastAPI:
    """Build the application.

    Args:
        painter: who takes faces to paint; None is a micro-batcher of this process.
        paint: who runs its batches; None is this process, on the device of the settings.

    Raises:
        EdgeError: a model folder, the store or the tokens cannot be used, or a public host has no valid token.
    """
    here = painter is None and paint is None
    models = Models(settings.model, settings.device if here else "cpu", settings.max_batch)
    tokens = open_tokens(settings)
    store = FaceStore(settings.store)
    guard = Guard(settings, tokens)
    ingest = Ingest(models, store, settings.max_frames)
    feed, seats, census = Feed(store), Seats(settings.live_clients), Census(store)
    metrics = Metrics(census)
    posts = Turnstile(ingest.accept, POSTS_A_COMMIT)
    indexes = FaceIndexes(models, settings.match_faces)
    batcher = painter or MicroBatcher(
        metrics.timed(paint or models.paint), to_png,
        max_batch=policy_of(settings.device, settings.max_batch).max_batch, max_delay=settings.batch_delay,
        queue_size=settings.queue_size, deadline=settings.deadline,
    )  # fmt: skip

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            if here:
                await asyncio.to_thread(models.warm_up)
            async with batcher, feed, posts:
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
    app.add_middleware(RefuseEarly, painter=batcher)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(Audit)
    app.add_middleware(CountRequests, metrics=metrics)
    app.state.models, app.state.store, app.state.batcher, app.state.guard = models, store, batcher, guard
    metrics.watch("decode_queue_faces", "faces that wait for the decoder", lambda: batcher.waiting)
    metrics.watch("live_clients", "clients that follow the feed", lambda: seats.taken)
    metrics.watch("index_faces", "faces that can be found by example", lambda: len(indexes))
    app.include_router(frame_routes(guard, posts, feed, metrics))
    app.include_router(_lists(settings, guard, models, store))
    app.include_router(pictures(guard, ingest, batcher, ContentCache(settings.cache_bytes)))
    app.include_router(match_routes(guard, ingest, store, indexes, feed))
    app.include_router(device_routes(guard, census))
    app.include_router(live_routes(guard, feed, seats))
    app.include_router(metrics_routes(guard, metrics))
    app.include_router(_probes(store, batcher))
    add_page(app)

    @app.get("/openapi.json", include_in_schema=False, dependencies=[Depends(guard.asks(Scope.ADMIN))])
    def get_schema() -> dict[str, Any]:
        return app.openapi()

    one_line_errors(app)
    return app


def _lists(settings: ServerSettings, guard: Guard, models: Models, store: FaceStore) -> APIRouter:
    """The routes that list faces and models."""
    router = APIRouter(prefix="/v1", responses={"4XX": {"model": ErrorAnswer}})
    reads = Depends(guard.asks(Scope.READ))

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
