"""Audit log: one JSON line a request (principal, action, origin, outcome), by the logger `edge_stscq.audit`.

    {"time": "2026-11-22T09:30:00.123+00:00", "from": "192.0.2.7", "who": "5be3f0a1c2d4", "what": "POST /v1/frames",
     "outcome": 200, "device": "door-1", "first": 41, "count": 2, "stored": 2, "extended": 0, "duplicate": 0}

`who` is the id of a token, `local` on a server without tokens, null for whoever showed no valid one. `what` is the
pattern of a route and never the address as it was sent, and beside it stand only names and numbers that a route has
checked: no frame, template, picture or token can get into a line. What asks for no token (probes, addresses that do
not exist) is not logged, nor is a refusal for asking too often that follows another: neither may push out what counts.
The line of a WebSocket is written when it is accepted, with outcome 101.

Making and revoking a token are commands on the server's machine; their lines have the number of its user as `who`.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_stscq.errors import EdgeError

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

FILE_BYTES = 10 << 20
"""Size at which a new file is begun."""
OLD_FILES = 9
"""Earlier files that are kept, as `.1` (the latest) to `.9`."""

_KEY = "edge_stscq.audit"
_log = logging.getLogger(_KEY)


def annotate(request: HTTPConnection, **facts: str | int | None) -> None:
    """Add checked names and numbers to the line of this request."""
    request.scope[_KEY].update(facts)


def annotate_command(what: str, token_id: str, device: str, scopes: str) -> None:
    """Write the line of something that was done to a token by a command on this machine, not by a request."""
    facts = {"outcome": "done", "token": token_id, "device": device, "scopes": scopes}
    _write({"time": _now(), "from": None, "who": f"uid {os.getuid()}", "what": what} | facts)


def annotate_erasure(faces: int, devices: Sequence[str]) -> None:
    """Write the line of faces that were erased by a command on this machine: how many, and whose cameras'."""
    facts = {"outcome": "done", "faces": faces, "devices": list(devices)}
    _write({"time": _now(), "from": None, "who": f"uid {os.getuid()}", "what": "store erase"} | facts)


def suppress(request: HTTPConnection) -> None:
    """Write no line for this request."""
    request.scope[_KEY].clear()


class AuditMiddleware:
    """Middleware that writes the line of each request about which something was noted."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        facts: dict[str, str | int | None] = {}
        scope[_KEY], outcome, written = facts, 500, False

        def write() -> None:
            nonlocal written
            if facts and not written:
                client = scope.get("client")
                what = f"{scope.get('method', 'WS')} {scope['route'].path}"
                line = {
                    "time": _now(), "from": client[0] if client else None,
                    "who": facts.pop("who"), "what": what, "outcome": outcome,
                }  # fmt: skip
                _write(line | facts)
                written = True

        async def watch(message: Message) -> None:
            nonlocal outcome
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                outcome = message["status"]
            elif message["type"] == "websocket.accept":
                outcome = 101
                write()
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            write()


def _write(line: dict[str, Any]) -> None:
    if _log.isEnabledFor(logging.INFO):  # a record of our own: `info` would look through the stack for who called it
        _log.handle(logging.LogRecord(_KEY, logging.INFO, __file__, 0, json.dumps(line), None, None))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class OwnerOnlyRotatingFile(RotatingFileHandler):
    """Every file, also after a rotation, is readable by its owner alone."""

    def _open(self) -> Any:
        file = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return open(file, self.mode, encoding=self.encoding)

    def shouldRollover(self, record: logging.LogRecord) -> bool:  # noqa: N802 - the name that logging asks for
        # logging's own formats the record for this and asks for the file by its name
        stream = self.stream
        return stream is not None and os.fstat(stream.fileno()).st_size + len(record.getMessage()) >= self.maxBytes


@contextmanager
def audit_log(path: Path) -> Iterator[None]:
    """Append the lines to the file at `path`, with rotation.

    Raises:
        EdgeError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = OwnerOnlyRotatingFile(path, maxBytes=FILE_BYTES, backupCount=OLD_FILES, encoding="utf-8")
    except OSError as error:
        raise EdgeError(f"cannot write the audit log {path}: {error.strerror}; choose another --audit") from None
    handler.setFormatter(logging.Formatter("%(message)s"))
    level, passed_on = _log.level, _log.propagate
    _log.addHandler(handler)
    _log.setLevel(logging.INFO)
    _log.propagate = False
    try:
        yield
    finally:
        _log.removeHandler(handler)
        _log.setLevel(level)
        _log.propagate = passed_on
        handler.close()
