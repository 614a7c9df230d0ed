"""Authentication, scopes and rate limits of every route; security headers of every response."""

import contextlib
import json
import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI

from edge_stscq.errors import EdgeError
from edge_stscq.server.auth import guard as guard_module
from edge_stscq.server.auth import rate_limit as limits
from edge_stscq.server.auth.rate_limit import RateLimited, RateLimiter
from edge_stscq.server.auth.scope import Scope
from edge_stscq.server.auth.tokens import TokenStore
from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.server.pictures.encoder import PictureEncoder
from edge_stscq.server.pictures.process import EncodedPicture
from edge_stscq.server.security_headers import SECURITY_HEADERS
from edge_stscq.stream import CodedFace
from tests.support.stored_faces import Camera

MakeApp = Callable[..., FastAPI]
Serve = Callable[..., AbstractAsyncContextManager[httpx2.AsyncClient]]
MakeFaces = Callable[..., list[CodedFace]]
Issue = Callable[..., str]

ROUTES = {
    ("POST", "/v1/frames"): {"send"},
    ("POST", "/v2/frames"): {"send"},
    ("GET", "/v1/faces"): {"read"},
    ("GET", "/v1/faces/newest"): {"read"},
    ("GET", "/v1/faces/cam-0.png"): {"read"},
    ("GET", "/v1/models"): {"send", "read", "match", "admin", "delete", "edit", "templates"},
    ("GET", "/v1/templates"): {"templates"},
    ("POST", "/v1/match"): {"match"},
    ("POST", "/v1/match/picture"): {"match"},
    ("GET", "/v1/devices"): {"read"},
    ("GET", "/openapi.json"): {"admin"},
    ("GET", "/metrics"): {"admin"},
    ("DELETE", "/v1/faces/cam-0"): {"delete"},
    ("GET", "/v1/visits"): {"read"},
    ("GET", "/v1/visits/changes"): {"read"},
    ("GET", "/v1/visits/of"): {"read"},
    ("GET", "/v1/visits/0"): {"read"},
    ("GET", "/v1/persons"): {"read"},
    ("GET", "/v1/persons/0"): {"read"},
    ("POST", "/v1/persons/undo"): {"edit"},
    ("POST", "/v1/persons/enroll"): {"edit"},
    ("POST", "/v1/persons/0/name"): {"edit"},
    ("POST", "/v1/persons/0/hide"): {"edit"},
    ("POST", "/v1/persons/0/feature"): {"edit"},
    ("POST", "/v1/persons/0/merge"): {"edit"},
    ("POST", "/v1/persons/0/split"): {"edit"},
    ("DELETE", "/v1/persons/0"): {"delete"},
}
"""Scopes that open each route."""


def bearer(token: str, device: str = "cam", sequence: int = 0) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", "Edge-Device": device, "Edge-Sequence": str(sequence)}


@pytest.fixture
def body(entry: CatalogEntry, make_faces: MakeFaces) -> bytes:
    return entry.codec.encode_stream(make_faces(1))


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """No limiter is refilled."""
    monkeypatch.setattr(guard_module, "RateLimiter", partial(RateLimiter, clock=lambda: 0.0))


@pytest.mark.anyio
async def test_guard_scope_of_every_route(
    serve: Serve, issue: Issue, entry: CatalogEntry, make_faces: MakeFaces, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = {"/v2/frames": Camera(entry.codec).faces(make_faces(1))}
    monkeypatch.setattr(guard_module, "FAILURES_PER_MINUTE", 1000)
    tokens = {str(scope): issue("*", scope) for scope in Scope}
    seen = EncodedPicture(entry.model_id, make_faces(1)[0], None, 90, (0, 0, 1, 1), 1)
    async with serve(host="0.0.0.0", persons=True, pictures=PictureEncoder(lambda data: seen)) as client:
        declared = (await client.get("/openapi.json", headers=bearer(tokens["admin"]))).json()["paths"]
        patterns = {re.sub("/0(?=/|$)", "/{number}", path).replace("cam-0", "{face_id}") for _, path in ROUTES}
        asked = patterns - {"/openapi.json"}
        assert set(declared) == asked | {"/health", "/ready"}
        good = tokens["send"]
        for (method, path), scopes in ROUTES.items():
            for given in ("", "Bearer", f"Bearer {good}x", f"Bearer {good[:-1]}", f"Basic {good}", good):
                headers = bearer(good) | {"Authorization": given}
                answer = await client.request(method, path, content=bodies.get(path, body), headers=headers)
                assert answer.status_code == 401
                challenge = 'Bearer realm="edge-stscq"' + (', error="invalid_token"' if given else "")
                assert answer.headers["www-authenticate"] == challenge
                assert good not in answer.text
            for scope, token in tokens.items():
                answer = await client.request(method, path, content=bodies.get(path, body), headers=bearer(token))
                if scope in scopes:
                    absent = path.startswith(("/v1/persons/", "/v1/visits/")) and answer.status_code in (404, 422)
                    assert answer.status_code == 200 or absent, "there is no such person, and the body is a face"
                else:
                    assert answer.status_code == 403
                    assert 'error="insufficient_scope", scope="' in answer.headers["www-authenticate"]
                    assert scope in answer.json()["error"]
        for probe in ("/health", "/ready", "/", "/page/app.js"):
            assert (await client.get(probe)).status_code == 200


@pytest.mark.anyio
async def test_guard_device_of_token(serve: Serve, issue: Issue, body: bytes) -> None:
    mine, fleet = issue("door-1", "send", "read"), issue("*", "send", "read")
    async with serve(host="0.0.0.0") as client:
        for device, token, expected in (
            ("door-1", mine, 200), ("door-2", mine, 403), ("door", mine, 403), ("door-2", fleet, 200),
        ):  # fmt: skip
            answer = await client.post("/v1/frames", content=body, headers=bearer(token, device))
            assert answer.status_code == expected
        assert (
            "door-1 and not of door"
            in (await client.post("/v1/frames", content=body, headers=bearer(mine, "door"))).json()["error"]
        )
        for token, seen in ((mine, ["door-1-0"]), (fleet, ["door-1-0", "door-2-0"])):
            listed = (await client.get("/v1/faces", headers=bearer(token))).json()["faces"]
            assert [face["id"] for face in listed] == seen
        for face, token, expected in (
            ("door-1-0", mine, 200), ("door-2-0", mine, 403), ("door-2-9", mine, 403), ("door-2-0", fleet, 200),
        ):  # fmt: skip
            assert (await client.get(f"/v1/faces/{face}.png", headers=bearer(token))).status_code == expected


@pytest.mark.anyio
async def test_guard_token_created_and_revoked(serve: Serve, issue: Issue, body: bytes, tmp_path: Path) -> None:
    token = issue("cam", "read")
    async with serve() as client:
        assert (await client.get("/v1/faces")).status_code == 401
        assert (await client.get("/v1/faces", headers=bearer(token))).status_code == 200
        with contextlib.closing(TokenStore(tmp_path / "tokens.db", create=False)) as tokens:
            tokens.revoke(tokens.all()[0].id)
        answer = await client.get("/v1/faces", headers=bearer(token))
        assert (answer.status_code, "invalid_token" in answer.headers["www-authenticate"]) == (401, True)
        assert (await client.get("/v1/faces")).status_code == 401


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "edge.example", "", "127.0.0.1.example"])
def test_guard_public_bind_needs_token(make_app: MakeApp, issue: Issue, tmp_path: Path, host: str) -> None:
    with pytest.raises(EdgeError, match="no valid token; make one with: edge-stscq token create --tokens .*tokens.db"):
        make_app(host=host)
    assert not (tmp_path / "tokens.db").exists()
    issue("cam", "send")
    with contextlib.closing(TokenStore(tmp_path / "tokens.db", create=False)) as tokens:
        tokens.revoke(tokens.all()[0].id)
    with pytest.raises(EdgeError, match="no valid token"):
        make_app(host=host)
    issue("cam", "send")
    assert make_app(host=host).state.guard


@pytest.mark.anyio
@pytest.mark.usefixtures("frozen")
async def test_guard_request_limit_per_device(serve: Serve, issue: Issue, body: bytes) -> None:
    first, second, other = issue("cam", "send"), issue("cam", "send"), issue("door", "send")
    async with serve(host="0.0.0.0", requests_per_minute=3) as client:
        for token in (first, second, first):
            assert (await client.post("/v1/frames", content=body, headers=bearer(token))).status_code == 200
        for token in (first, second):
            answer = await client.post("/v1/frames", content=body, headers=bearer(token))
            assert answer.status_code == 429
            assert answer.headers["retry-after"] == "20"
            assert "requests" in answer.json()["error"]
        assert (await client.post("/v1/frames", content=body, headers=bearer(other, "door"))).status_code == 200


@pytest.mark.anyio
@pytest.mark.usefixtures("frozen")
async def test_guard_byte_limit_per_device(serve: Serve, issue: Issue) -> None:
    cam, door = issue("cam", "send", "read"), issue("door", "send")
    async with serve(host="0.0.0.0", bytes_per_minute=1000) as client:
        for size, expected in ((900, 400), (300, 400), (1, 429)):
            answer = await client.post("/v1/frames", content=b"x" * size, headers=bearer(cam))
            assert answer.status_code == expected
        assert answer.headers["retry-after"] == "12"
        assert (await client.get("/v1/faces", headers=bearer(cam))).status_code == 200
        assert (await client.post("/v1/frames", content=b"x", headers=bearer(door, "door"))).status_code == 400


@pytest.mark.anyio
@pytest.mark.usefixtures("frozen")
async def test_guard_failure_limit_per_address(serve: Serve, issue: Issue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_module, "FAILURES_PER_MINUTE", 2)
    token = issue("cam", "read")
    async with serve(host="0.0.0.0") as client:
        statuses = [(await client.get("/v1/faces", headers=bearer("guess"))).status_code for _ in range(3)]
        assert statuses == [401, 401, 429]
        assert (await client.get("/v1/faces", headers=bearer(token))).status_code == 200


def test_rate_limiter_refill_and_eviction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    limiter = RateLimiter(60, lambda: now)
    assert [limiter.acquire("a", 30) for _ in range(3)] == [None, None, RateLimited(30, repeated=False)]
    assert limiter.acquire("a", 1) == RateLimited(1, repeated=True)
    now = 10
    assert limiter.acquire("a", 11) == RateLimited(1, repeated=True)
    assert limiter.acquire("a", 10) is None
    assert limiter.acquire("a", 0) == RateLimited(0, repeated=False)
    now = 1000
    limiter.charge("a", 90)
    assert limiter.acquire("a", 0) == RateLimited(30, repeated=True)
    monkeypatch.setattr(limits, "MAX_KEYS", 3)
    for key in "bcadbc":
        limiter.acquire(key, 60)
    assert len(limiter) == 3
    assert limiter.acquire("b", 1) is not None
    assert limiter.acquire("a", 1) is None


@pytest.mark.anyio
@pytest.mark.usefixtures("frozen")
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_security_headers_of_every_response(
    make_app: MakeApp, issue: Issue, body: bytes, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    def broken(*_: object) -> list[bytes]:
        raise RuntimeError("broken")

    token = issue("cam", "send", "read")
    app = make_app(host="0.0.0.0", requests_per_minute=4)
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url=f"{scheme}://edge.example") as client,
    ):
        answers = [
            await client.post("/v1/frames", content=body, headers=bearer(token)),
            await client.get("/v1/faces/cam-0.png", headers=bearer(token)),
            await client.get("/v1/faces/door-0.png", headers=bearer(token)),
            await client.get("/v1/faces"),
            await client.get("/nowhere"),
            await client.get("/health"),
        ]
        monkeypatch.setattr(app.state.store, "find", broken)
        answers.append(await client.get("/v1/faces/cam-0.png", headers=bearer(token)))
        answers.append(await client.get("/v1/faces", headers=bearer(token)))
    assert [answer.status_code for answer in answers] == [200, 200, 403, 401, 404, 200, 500, 429]
    for number, answer in enumerate(answers):
        expected = SECURITY_HEADERS | ({"Cache-Control": "private, no-cache"} if number == 1 else {})
        assert {name: answer.headers.get(name) for name in SECURITY_HEADERS} == expected
        if answer.status_code != 500:
            assert ("strict-transport-security" in answer.headers) == (scheme == "https")
    assert {"Content-Security-Policy", "Referrer-Policy", "Cross-Origin-Opener-Policy"} <= SECURITY_HEADERS.keys()
    policy = dict(part.split(" ", 1) for part in SECURITY_HEADERS["Content-Security-Policy"].split("; "))
    assert (policy["default-src"], policy["frame-ancestors"]) == ("'none'", "'none'")
    assert "unsafe" not in json.dumps(policy)
