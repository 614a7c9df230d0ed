"""A server and a matcher behind real sockets, each served by a thread."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
from fastapi import FastAPI

from edge_stscq.config.match_thresholds import Limit, Limits, Measurement, Rate
from edge_stscq.config.template_thresholds import SchemeThresholds, TemplateThresholds
from edge_stscq.matcher.client import MatcherClient
from edge_stscq.server.app import create_app
from edge_stscq.server.auth.scope import Scope
from edge_stscq.server.auth.tokens import TokenStore
from edge_stscq.server.front.server import FrontServer
from edge_stscq.server.settings import ServerSettings

MATCHER_SCOPES = (Scope.TEMPLATES, Scope.SEND, Scope.DELETE)
"""Of a matcher's token at the server."""


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


def made_up_thresholds(model_id: bytes, scheme: str = "rotated") -> TemplateThresholds:
    """Thresholds of a model: above 0.7 the same person, above 0.5 perhaps."""

    def limit(score: float, share: float) -> Limit:
        measured = Rate(matches=int(share * 1e6), pairs=10**6, rate=share, low=share / 2, high=2 * share)
        return Limit(score=score, false_match_rate=share, measured=measured)

    limits = Limits(same_person=limit(0.7, 1e-4), perhaps=limit(0.5, 1e-3))
    measured = Measurement(
        encoder="none", crops=("none",), crops_sha256="0" * 64, faces=2, people=2, stranger_pairs=10**6
    )
    schemes = (SchemeThresholds(scheme=scheme, limits=limits),)
    return TemplateThresholds(model_id=model_id.hex(), measured=measured, schemes=schemes)
