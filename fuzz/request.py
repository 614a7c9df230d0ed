"""Requests to the whole application, in this process, one after the other.

An input is written like HTTP/1: a line with method and address, lines of headers, an empty line, the body. It is not
parsed as a web server would; bytes that no web server lets through are taken out, everything else reaches the
application. Whatever is asked, the answer has a status that was meant, a bounded body, and for refusals one line.
"""

import asyncio
import json
import re
from contextlib import AbstractAsyncContextManager, closing
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from fastapi import FastAPI
from pydantic import ByteSize

from edge_stscq.server.app import create_app
from edge_stscq.server.auth.scope import Scope
from edge_stscq.server.auth.tokens import TokenStore
from edge_stscq.server.settings import ServerSettings
from fuzz.properties import MODEL

MEANT = frozenset({200, 307, 400, 401, 403, 404, 405, 408, 409, 413, 422, 429, 499, 503})
MAX_ANSWER = 1 << 20
"""Bytes; a page of a thousand faces is the longest."""
_LOOP = asyncio.new_event_loop()


@cache
def _started(folder: Path) -> tuple[FastAPI, AbstractAsyncContextManager[Any]]:
    """An application, and what keeps it running for as long as it is referred to."""
    app = create_app(ServerSettings(
        model=(MODEL,), store=folder / "faces.db", max_body_bytes=ByteSize(1 << 16), max_frames=64,
        requests_per_minute=1e12, bytes_per_minute=ByteSize(1 << 50),
    ))  # fmt: skip
    with closing(TokenStore(folder / "tokens.db", create=True)) as tokens:
        app.state.shown = f"Bearer {tokens.create('*', Scope)[1]}".encode()
    running = app.router.lifespan_context(app)
    _LOOP.run_until_complete(running.__aenter__())
    return app, running


def answered(data: bytes, folder: Path) -> bool:
    """Ask and check the answer; whether the request was done as asked.

    Raises:
        AssertionError: the answer is not one that is meant.
        Exception: whatever the application let through.
    """
    app = _started(folder)[0]
    scope, content = _parsed(data)
    if all(name != b"authorization" for name, _ in scope["headers"]):
        scope["headers"].append((b"authorization", app.state.shown))
    status, headers, body = _LOOP.run_until_complete(_ask(app, scope, content))
    assert status in MEANT, f"status {status}"
    assert len(body) <= MAX_ANSWER
    if status >= 400 and body:
        answer = json.loads(body)
        message = answer["reason" if "ok" in answer else "error"]
        assert isinstance(message, str)
        assert "\n" not in message
    assert headers["x-content-type-options"] == "nosniff"
    return status == 200


def _parsed(data: bytes) -> tuple[dict[str, Any], bytes]:
    head, _, body = data.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    method, _, address = first.partition(b" ")
    raw, _, query = bytes(byte for byte in address if 32 < byte < 127).partition(b"?")
    headers = [(b"host", b"127.0.0.1")]
    for line in lines:
        name, _, value = line.partition(b":")
        if re.fullmatch(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
            headers.append((name.lower(), value.strip().replace(b"\0", b"").replace(b"\r", b"")))
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "root_path": "",
        "method": re.sub(rb"[^A-Z]", b"", method).decode() or "GET", "raw_path": b"/" + raw.lstrip(b"/"),
        "path": "/" + unquote(raw.decode().lstrip("/")), "query_string": query, "headers": headers,
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8377),
    }  # fmt: skip
    return scope, body


async def _ask(app: FastAPI, scope: dict[str, Any], body: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer. The body goes in two pieces and the client stays until it is answered."""
    pieces = [body[: len(body) // 2], body[len(body) // 2 :]]
    done, status, headers, answer = asyncio.Event(), 0, dict[str, str](), bytearray()

    async def receive() -> dict[str, Any]:
        if pieces:
            return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}
        await done.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            headers.update((name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"])
        else:
            answer.extend(message.get("body", b""))
            if not message.get("more_body"):
                done.set()

    await app(scope, receive, send)
    return status, headers, bytes(answer)
