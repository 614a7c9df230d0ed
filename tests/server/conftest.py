"""A server on a tiny model of random weights, reached through the ASGI transport."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import httpx2
import numpy as np
import pytest
from fastapi import FastAPI

from edge_stscq.server.app import create_app
from edge_stscq.server.decode_service import DecodeService
from edge_stscq.server.settings import ServerSettings
from edge_stscq.stream import CodedFace

MakeApp = Callable[..., FastAPI]
MakeFaces = Callable[..., list[CodedFace]]
Serve = Callable[..., AbstractAsyncContextManager[httpx2.AsyncClient]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def service(tiny_model: Path) -> DecodeService:
    return DecodeService(tiny_model)


@pytest.fixture(scope="session")
def make_faces(service: DecodeService) -> MakeFaces:
    """`make_faces(count, layers=3, seed=0)`: random faces of the tiny model."""

    def make(count: int, layers: int = 3, seed: int = 0) -> list[CodedFace]:
        random = np.random.default_rng(seed)
        config = service.config
        return [
            CodedFace(
                int(random.integers(config.groups)),
                random.integers(config.entries, size=config.layer_ends[layers - 1]).astype(np.uint16),
                layers,
            )
            for _ in range(count)
        ]

    return make


@pytest.fixture
def make_app(tiny_model: Path, tmp_path: Path) -> MakeApp:
    """`make_app(**settings)`: an application whose store outlives it within a test."""

    def make(**changes: object) -> FastAPI:
        chosen = {"model": tiny_model, "store": tmp_path / "faces.db", **changes}
        return create_app(ServerSettings.model_validate(chosen))

    return make


@pytest.fixture
def serve(make_app: MakeApp) -> Serve:
    """`async with serve(**settings) as client`, or `serve(app=app)`: an application, started and stopped."""

    @asynccontextmanager
    async def start(app: FastAPI | None = None, **changes: object) -> AsyncIterator[httpx2.AsyncClient]:
        app = app or make_app(**changes)
        transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8377") as client,
        ):
            yield client

    return start
