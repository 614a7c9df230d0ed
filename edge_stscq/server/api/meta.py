"""Routes about the server itself: models, probes, metrics and the OpenAPI document."""

from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from edge_stscq.server.api.schemas import ErrorAnswer, ModelInfo, ModelList, ReadyState, State
from edge_stscq.server.auth.guard import Guard, Principal
from edge_stscq.server.auth.scope import Scope
from edge_stscq.server.decoding.catalog import ModelCatalog
from edge_stscq.server.metrics import Metrics
from edge_stscq.server.readiness import Readiness


def model_routes(guard: Guard, catalog: ModelCatalog, device: str, persons: bool, pictures: bool) -> APIRouter:
    """`GET /v1/models`; `device` decodes their faces."""
    router = APIRouter(prefix="/v1", responses={"4XX": {"model": ErrorAnswer}})

    @router.get("/models", dependencies=[Depends(guard.require(*Scope))])
    def get_models() -> ModelList:
        models = [ModelInfo.of(model, device) for model in catalog]
        return ModelList(models=models, persons=persons, pictures=pictures)

    return router


def probe_routes(readiness: Readiness) -> APIRouter:
    """Liveness (restart me when red) and readiness (send me work when green)."""
    router = APIRouter()

    @router.head("/health", include_in_schema=False)
    @router.get("/health", response_model=State)
    async def health() -> JSONResponse:
        reason = readiness.unhealthy_reason
        state = State(ok=reason is None, reason=reason)
        return JSONResponse(state.model_dump(), 200 if state.ok else 503)

    @router.head("/ready", include_in_schema=False)
    @router.get("/ready", response_model=ReadyState)
    async def ready() -> JSONResponse:
        reason = await readiness.reason()
        state = ReadyState(ok=reason is None, reason=reason, decoder=readiness.confinement())
        return JSONResponse(state.model_dump(), 200 if state.ok else 503)

    return router


def metrics_routes(guard: Guard, metrics: Metrics) -> APIRouter:
    """`GET /metrics`, for Prometheus."""
    router = APIRouter()

    administers = Depends(guard.require(Scope.ADMIN))

    @router.get("/metrics", response_class=Response)
    def get_metrics(principal: Principal = administers) -> Response:
        only = principal.only_device
        registry = metrics.registry if only is None else metrics.of_device(only)
        return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return router


def add_openapi(app: FastAPI, guard: Guard) -> None:
    """Serve the document of all routes to administrators."""

    @app.get("/openapi.json", include_in_schema=False, dependencies=[Depends(guard.require(Scope.ADMIN))])
    def get_schema() -> dict[str, Any]:
        return app.openapi()
