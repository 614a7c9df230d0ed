"""Audit log: one JSON line a request (principal, action, origin, outcome), by the logger `edge_stscq.audit`.

    {"time": "2026-11-22T09:30:00.123+00:00", "from": "192.0.2.7", "who": "5be3f0a1c2d4", "what": "POST /v1/frames",
     "outcome": 200, "device": "door-1", "first": 41, "count": 2, "stored": 2, "extended": 0, "duplicate": 0}

`who` is the id of a token and `owner` whose it is; `who` is null for whoever showed no valid one. `what` is the
pattern of a route and never the address as it was sent, and beside it stand only names and numbers that a route has
checked: no frame, template, picture or token can get into a line. `faces` names those that were shown, their numbers by
stream. What asks for no token (probes, addresses that do not exist) is not logged, nor is a refusal for asking too
often that follows another. Lines without a principal go to a file of their own, `edge_stscq.audit.strangers`: no
stranger can push out what counts. The line of a WebSocket is written when it is accepted, with outcome 101, and again
for the faces that it has shown.

A line is written before its answer is sent. Where it cannot be, the answer is 503 (`AuditTrail`). Lines that tell of an
erasure are on the disk before it begins to be answered, as are all of commands; others the system writes to the disk
when it likes, mostly within half a minute, and a power cut takes them: of what was stored, the store itself tells.

Making and revoking a token are commands on the server's machine; their lines have the number of its user as `who`.
"""

from __future__ import annotations

import errno
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_stscq._files import refuse_shared_file
from edge_stscq.errors import EdgeError
from edge_stscq.server.front.address import client_address
from edge_stscq.server.write_queue import GroupCommitQueue

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

FILE_BYTES = 10 << 20
"""Size at which a new file is begun."""
OLD_FILES = 9
"""Earlier files that are kept, as `.1` (the latest) to `.9`."""

STRANGERS_OLD_FILES = 1
"""Earlier files that are kept of those who showed no valid token."""
LINES = 64
"""Of several requests that are written in one turn of the thread, at most."""
MAX_RANGES = 200
"""Ranges of numbers in the `faces` of one line; a page of a list is mostly one."""

Fact = str | int | None | Mapping[str, str]
_Line = tuple[dict[str, Any], logging.Logger]

_KEY = "edge_stscq.audit"
_log, _strangers = logging.getLogger(_KEY), logging.getLogger(f"{_KEY}.strangers")


def annotate(request: HTTPConnection, **facts: Fact) -> None:
    """Add checked names and numbers to the line of this request."""
    request.scope[_KEY].update(facts)


def annotate_command(what: str, token_id: str, device: str, scopes: str) -> None:
    """Write the line of something that was done to a token by a command on this machine, not by a request."""
    _write_command(what, {"outcome": "done", "token": token_id, "device": device, "scopes": scopes})


def _write_command(what: str, facts: Mapping[str, Any]) -> None:
    try:
        line = {"time": _now(), "from": None, "who": f"uid {os.getuid()}", "what": what} | dict(facts)
        _write(line, durable=True)
    except OSError as error:
        raise EdgeError(f"cannot write the audit log: {error.strerror}; nothing is done without it") from None


def faces_shown(names: Iterable[str]) -> dict[str, str]:
    """Numbers of faces by stream, in ranges; where they are too many, `*` says how many more there were.

    Example:
        >>> faces_shown(["cam-7", "cam-5", "cam-6", "door-1"])
        {'cam': '5-7', 'door': '1'}
    """
    numbers: dict[str, list[int]] = {}
    for name in names:
        stream, _, number = name.rpartition("-")
        numbers.setdefault(stream, []).append(int(number))
    shown: dict[str, str] = {}
    left, omitted = MAX_RANGES, 0
    for stream, unsorted in numbers.items():
        ranges: list[tuple[int, int]] = []
        for value in sorted(set(unsorted)):
            if ranges and value == ranges[-1][1] + 1:
                ranges[-1] = ranges[-1][0], value
            else:
                ranges.append((value, value))
        omitted += sum(last - first + 1 for first, last in ranges[left:])
        if kept := ranges[:left]:
            shown[stream] = ",".join(str(first) if first == last else f"{first}-{last}" for first, last in kept)
        left -= len(kept)
    return shown | ({"*": f"{omitted} more"} if omitted else {})


def annotate_faces(what: str, faces: int, devices: Sequence[str]) -> None:
    """Write the line of faces that a command on this machine erases or hands over: how many, and whose cameras'."""
    _write_command(what, {"outcome": "done", "faces": faces, "devices": list(devices)})


def annotate_person(what: str, person: int | None) -> None:
    """Write the line of something that a command on this machine does to a person: the number, never the name."""
    _write_command(what, {"outcome": "begun", "person": person})


def suppress(request: HTTPConnection) -> None:
    """Write no line for this request."""
    request.scope[_KEY].clear()


class AuditTrail:
    """Writer of the lines of an application, in a thread of its own, since files may stand still.

    Attributes:
        failure: reason of the last line's failure; None if it was written.
    """

    def __init__(self) -> None:
        self._queue: GroupCommitQueue[_Line, None] = GroupCommitQueue(_write_all, LINES, "audit")
        self.failure: str | None = None

    async def write(self, what: str, scope: Scope, outcome: int | str, facts: Mapping[str, Fact]) -> bool:
        """Write a line; False if it could not be, and then its answer must not be given.

        Args:
            what: method and pattern of the route.
            scope: of the request, for its client.
            facts: `who` among them.
        """
        address = client_address(scope)
        line = {
            "time": _now(), "from": None if address is None else str(address), "who": facts.get("who"), "what": what,
            "outcome": outcome, **facts,
        }  # fmt: skip
        return await self._written(line, _strangers if line["who"] is None else _log)

    async def unusable_reason(self) -> str | None:
        """Reason why the last line could not be written, if the next one cannot be either."""
        if self.failure is not None:
            line = {"time": _now(), "from": None, "who": None, "what": "audit log", "outcome": "written again"}
            await self._written(line, _log)
        return self.failure

    async def _written(self, line: dict[str, Any], log: logging.Logger) -> bool:
        if log.isEnabledFor(logging.INFO):
            try:
                await self._queue.submit((line, log))
            except OSError as error:
                self.failure = f"the audit log cannot be written: {error.strerror}"
                return False
        self.failure = None
        return True

    def close(self) -> None:
        self._queue.close()


class AuditMiddleware:
    """Middleware that writes the line of each request about which something was noted."""

    def __init__(self, app: ASGIApp, trail: AuditTrail) -> None:
        self._app, self._trail = app, trail

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        facts: dict[str, Fact] = {}
        scope[_KEY] = facts
        begun = refused = False

        async def written(outcome: int) -> bool:
            """True if the line is written, or nothing is to be written; a stranger is turned away all the same."""
            what = f"{scope.get('method', 'WS')} {scope['route'].path}" if facts else ""
            return not facts or await self._trail.write(what, scope, outcome, facts) or facts["who"] is None

        async def watch(message: Message) -> None:
            nonlocal begun, refused
            if not begun:
                begun = True
                outcome = 101 if message["type"] == "websocket.accept" else message.get("status", 403)
                if not await written(outcome):
                    from edge_stscq.server.errors import busy_response

                    refused = True
                    await busy_response(f"{self._trail.failure}; nothing is answered without it")(scope, receive, send)
            if not refused:
                await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            if not begun:
                await written(500)


def _write_all(lines: Sequence[_Line]) -> list[Exception | None]:
    """Write lines of several requests; for each why it could not be."""
    outcomes: list[Exception | None] = []
    for line, log in lines:
        try:
            _write(line, log, durable=str(line["what"]).startswith("DELETE "))
        except OSError as error:
            outcomes.append(error)
        else:
            outcomes.append(None)
    return outcomes


def _write(line: dict[str, Any], log: logging.Logger = _log, durable: bool = False) -> None:
    if log.isEnabledFor(logging.INFO):  # a record of our own: `info` would look through the stack for who called it
        record = logging.LogRecord(log.name, logging.INFO, __file__, 0, json.dumps(line), None, None)
        record.durable = durable
        log.handle(record)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class OwnerOnlyRotatingFile(RotatingFileHandler):
    """Handler whose every file is readable by its owner alone, and that raises what it cannot write.

    A file that was moved or removed is begun anew.
    """

    _torn = False

    def _open(self) -> Any:
        file = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return open(file, self.mode, encoding=self.encoding)

    def emit(self, record: logging.LogRecord) -> None:
        self._reopen_if_moved()
        line = f"{self.format(record)}\n".encode()
        if os.fstat(self._file()).st_size + len(line) > self.maxBytes:
            self.doRollover()
        written = os.write(self._file(), b"\n" * self._torn + line)
        self._torn = written < len(line)
        if self._torn:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if getattr(record, "durable", False):
            os.fsync(self._file())

    def _file(self) -> int:
        if self.stream is None:
            self.stream = self._open()
        return int(self.stream.fileno())

    def _reopen_if_moved(self) -> None:
        try:
            there = os.stat(self.baseFilename)
        except FileNotFoundError:
            there = None
        if self.stream is not None and (there is None or not os.path.samestat(there, os.fstat(self._file()))):
            self.stream.close()
            self.stream = self._open()


def strangers_path(path: Path) -> Path:
    """File of those who showed no valid token, beside the audit log at `path`."""
    return path.with_name(f"{path.stem}.strangers{path.suffix}")


@contextmanager
def audit_log(path: Path) -> Iterator[None]:
    """Append the lines to the file at `path`, and those of strangers beside it, with rotation.

    Raises:
        EdgeError: a file cannot be written, or others can read it.
    """
    with _appended(_log, path, OLD_FILES), _appended(_strangers, strangers_path(path), STRANGERS_OLD_FILES):
        yield


@contextmanager
def _appended(log: logging.Logger, path: Path, old_files: int) -> Iterator[None]:
    refuse_shared_file(path, "the audit log")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = OwnerOnlyRotatingFile(path, maxBytes=FILE_BYTES, backupCount=old_files, encoding="utf-8")
    except OSError as error:
        raise EdgeError(f"cannot write the audit log {path}: {error.strerror}; choose another --audit") from None
    handler.setFormatter(logging.Formatter("%(message)s"))
    level, passed_on = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = passed_on
        handler.close()
