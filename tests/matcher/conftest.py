"""A server on a tiny model in a thread, and a matcher that follows it."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import numpy as np
import pytest
from fastapi import FastAPI
from numpy.typing import NDArray

from edge_stscq.bundle.model_folder import load_frame_codec
from edge_stscq.matcher.app import create_app as create_matcher
from edge_stscq.matcher.client import MatcherClient
from edge_stscq.matcher.template_source import TemplateSource
from edge_stscq.privacy import KeyRing, KeyStore, TemplateMatcher, scheme_named
from edge_stscq.server.app import create_app
from edge_stscq.server.auth.scope import Scope
from edge_stscq.server.auth.tokens import TokenStore
from edge_stscq.server.front.server import FrontServer
from edge_stscq.server.settings import ServerSettings

Embeddings = NDArray[np.float32]
SECRET = b"s" * 32
SERVER_SCOPES = (Scope.TEMPLATES, Scope.SEND, Scope.DELETE)


@contextlib.contextmanager
def listening(app: FastAPI, port: int = 0) -> Iterator[str]:
    """Address of an application behind a real socket, served by a thread."""
    listener = socket.create_server(("127.0.0.1", port))
    server = FrontServer(app)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])), daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive())
        assert server.started
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()


def wait_until(holds: Callable[[], object], seconds: float = 60) -> None:
    """Return when something holds; fail if it does not in time."""
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends, "it did not come about"
        time.sleep(0.02)


def make_token(path: Path, *scopes: Scope, device: str = "*") -> str:
    with contextlib.closing(TokenStore(path, create=True)) as tokens:
        return tokens.create(device, scopes)[1]


@dataclass
class FaceServer:
    """A server with its store, at the same address each time it is started.

    Attributes:
        token: of the scopes that a matcher needs.
    """

    model: Path
    folder: Path
    token: str
    url: str = ""

    @property
    def store(self) -> Path:
        return self.folder / "faces.db"

    @contextlib.contextmanager
    def running(self) -> Iterator[str]:
        settings = ServerSettings(model=(self.model,), store=self.store)
        with listening(create_app(settings), int(self.url.rpartition(":")[2] or 0)) as self.url:
            yield self.url

    def ask(self, method: str, path: str, scope: Scope = Scope.READ) -> httpx2.Response:
        token = make_token(self.folder / "tokens.db", scope)
        return httpx2.request(method, self.url + path, headers={"Authorization": f"Bearer {token}"})


@pytest.fixture
def server(tiny_model: Path, tmp_path: Path) -> FaceServer:
    folder = tmp_path / "server"
    folder.mkdir()
    return FaceServer(tiny_model, folder, make_token(folder / "tokens.db", *SERVER_SCOPES))


@pytest.fixture
def model_id(tiny_model: Path) -> bytes:
    return load_frame_codec(tiny_model).model_id


@pytest.fixture
def keys(tmp_path: Path) -> KeyStore:
    return KeyStore.create(tmp_path / "matcher.keys", SECRET)


@pytest.fixture
def matcher(keys: KeyStore) -> TemplateMatcher:
    return TemplateMatcher(scheme_named("rotated"), KeyRing([keys]))


@pytest.fixture
def source(server: FaceServer) -> Iterator[TemplateSource]:
    """A connection to the server, which runs."""
    with server.running() as url, TemplateSource(url, token=server.token) as opened:
        yield opened


@pytest.fixture
def embeddings() -> Embeddings:
    """Unit vectors float32 [8, 128]."""
    drawn = np.random.default_rng(3).standard_normal((8, 128))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


@dataclass
class MatcherProcess:
    """A matcher behind a real socket.

    Attributes:
        tokens: its file.
    """

    app: FastAPI
    url: str
    tokens: Path

    def client(self, *scopes: Scope, device: str = "*") -> MatcherClient:
        return MatcherClient(self.url, token=make_token(self.tokens, *(scopes or tuple(Scope)), device=device))


@pytest.fixture
def process(source: TemplateSource, matcher: TemplateMatcher, tmp_path: Path) -> Iterator[MatcherProcess]:
    tokens = tmp_path / "matcher-tokens.db"
    app = create_matcher(matcher, source, TokenStore(tokens, create=True))
    with listening(app) as url:
        wait_until(lambda: app.state.follower.complete)
        yield MatcherProcess(app, url, tokens)
