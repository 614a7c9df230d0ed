"""`WS /v1/live`: every face that comes or gains layers, one JSON message each, in the order of the store.

A face that was erased is told of as `{"erased": ID, "revision": N}`.

A client names the revision it has reached with `?after=`, or asks for the latest changes with `?last=`, and so misses
nothing across a lost connection; `?device=` is for faces of one device. It only listens: whatever it sends ends the
connection. A browser cannot set headers on a WebSocket, so a page offers its token as a subprotocol, `bearer.<token>`,
beside `edge-stscq.v1`, which is the one that the server chooses. The token is looked at again while the connection
lasts, so that revoking it ends the feed.

Any page may open a WebSocket to any host, so a request with an `Origin` must come from this server's own page.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, HTTPException, Query, Request, WebSocket
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocketDisconnect

from edge_stscq.protocol import DEVICE_NAME, MAX_SEQUENCE
from edge_stscq.server.api.schemas import ErasedInfo, FaceInfo
from edge_stscq.server.auth.audit_log import AuditTrail, Fact, faces_shown
from edge_stscq.server.auth.guard import Guard, Principal
from edge_stscq.server.auth.scope import Scope
from edge_stscq.server.storage.change_feed import ChangeFeed
from edge_stscq.server.storage.database import StoreError
from edge_stscq.server.storage.face_store import ErasedFace, StoredFace, undamaged

log = logging.getLogger(__name__)

PROTOCOL = "edge-stscq.v1"
SEND_SECONDS = 10.0
"""A client that does not take a message for so long is dropped."""
RECHECK_SECONDS = 5.0
"""Between two looks at a connected client's token."""
SEEN_SECONDS, SEEN_FACES = 60.0, 500
"""After so long, or so many, the faces that a client was shown are written into the audit log."""
FORBIDDEN, UNEXPECTED, SLOW, FAILED = 1008, 1003, 1013, 1011
"""Close codes: the token holds no more; the client sent something; it does not keep up; the store failed."""


class TooManyConnections(HTTPException):
    def __init__(self, limit: int) -> None:
        super().__init__(503, f"{limit} clients follow the feed already; try again later", {"Retry-After": "10"})


class ConnectionLimit:
    """Limit of `limit` clients; `active` counts those that are there."""

    def __init__(self, limit: int) -> None:
        self._limit, self.active = limit, 0

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        if self.active >= self._limit:
            raise TooManyConnections(self._limit)
        self.active += 1
        try:
            yield
        finally:
            self.active -= 1


def routes(guard: Guard, feed: ChangeFeed, connections: ConnectionLimit, trail: AuditTrail) -> APIRouter:
    router, reads = APIRouter(prefix="/v1"), Depends(guard.require(Scope.READ))

    @router.websocket("/live")
    async def live(
        socket: WebSocket,
        after: Annotated[int | None, Query(ge=0, le=MAX_SEQUENCE)] = None,
        last: Annotated[int, Query(ge=0, le=1000)] = 0,
        device: Annotated[str | None, Query(pattern=rf"^{DEVICE_NAME}$")] = None,
        principal: Principal = reads,
    ) -> None:
        check_origin(socket)
        if device is not None:
            principal.check_device(device)
        async with connections.hold():
            begin = await feed.start(after, last)
            shown = Shown(socket, principal, trail, "WS /v1/live")
            await attend(socket, guard, shown, _send(socket, feed, begin, device or principal.only_device, shown))

    @router.get("/live", include_in_schema=False, dependencies=[reads])
    async def explain(request: Request, origin: Annotated[str, Query(max_length=300)] = "") -> None:
        """Say to a page why it has no feed, which a browser does not."""
        if origin:
            _check_same_host(origin, request)
        raise HTTPException(
            426, "the feed is a WebSocket; what stands in front of the server has to pass Upgrade and Connection on",
            {"Upgrade": "websocket"},
        )  # fmt: skip

    return router


class Shown:
    """Faces that a client was shown and that are not in the audit log yet, which calls the feed `what`."""

    def __init__(self, socket: WebSocket, principal: Principal, trail: AuditTrail, what: str) -> None:
        self._scope, self._trail, self._what, self._names = socket.scope, trail, what, list[str]()
        self._who = {"who": principal.id, "owner": principal.owner}

    async def add(self, name: str) -> bool:
        """Note a face; False if those before it could not be written."""
        self._names.append(name)
        return len(self._names) < SEEN_FACES or await self.write()

    async def write(self) -> bool:
        names, self._names = self._names, []
        facts: dict[str, Fact] = {**self._who, "count": len(names), "faces": faces_shown(names)}
        return not names or await self._trail.write(self._what, self._scope, "shown", facts)

    async def write_regularly(self) -> tuple[int, str]:
        """Return when it fails."""
        while await self.write():
            await asyncio.sleep(SEEN_SECONDS)
        return FAILED, "the audit log cannot be written now; come back with ?after="


async def attend(socket: WebSocket, guard: Guard, shown: Shown, sending: Coroutine[Any, Any, tuple[int, str]]) -> None:
    """Accept a client and send until that ends, the client says something or leaves, or the token holds no more.

    Args:
        sending: answers with a close code and a reason; code 0 closes nothing.
    """
    try:
        await socket.accept(PROTOCOL if PROTOCOL in socket.scope["subprotocols"] else None)
    except BaseException:
        sending.close()
        raise
    ends = (sending, shown.write_regularly(), _refuse_messages(socket), _recheck(socket, guard))
    tasks = {asyncio.create_task(end) for end in ends}
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await shown.write()
    code, reason = done.pop().result()
    if code:
        with suppress(TimeoutError, WebSocketDisconnect):
            async with asyncio.timeout(1):
                await socket.close(code, reason)


async def _send(
    socket: WebSocket, feed: ChangeFeed, after: int, device: str | None, shown: Shown
) -> tuple[int, str]:
    try:
        async for changes in feed.changes(after, device):
            for change in undamaged(changes):
                if isinstance(change, ErasedFace):
                    message: ErasedInfo | FaceInfo = ErasedInfo(erased=change.id, revision=change.revision)
                else:
                    message = FaceInfo.of(change)
                async with asyncio.timeout(SEND_SECONDS):
                    await socket.send_text(message.model_dump_json())
                if isinstance(change, StoredFace) and not await shown.add(change.id):
                    return FAILED, "the audit log cannot be written now; come back with ?after="
    except TimeoutError:
        return SLOW, "too slow; come back with ?after="
    except WebSocketDisconnect:
        return 0, ""
    except Exception as error:
        log.error("the store cannot be read for the feed: %s", error)
    return FAILED, "the store cannot be read now; come back with ?after="


async def _refuse_messages(socket: WebSocket) -> tuple[int, str]:
    message = await socket.receive()
    return (0, "") if message["type"] == "websocket.disconnect" else (UNEXPECTED, "this feed takes no messages")


async def _recheck(socket: WebSocket, guard: Guard) -> tuple[int, str]:
    while True:
        await asyncio.sleep(RECHECK_SECONDS)
        try:
            permitted = await guard.still_permits(socket, Scope.READ)
        except StoreError as error:
            log.error("the tokens cannot be read: %s", error)
            return FAILED, "the tokens cannot be read now; come back with ?after="
        if not permitted:
            return FORBIDDEN, "the token holds no more"


def check_origin(socket: WebSocket) -> None:
    """Raise `HTTPException` 403 for a page of another host."""
    origin = socket.headers.get("origin")
    if origin is not None:
        _check_same_host(origin, socket)


def _check_same_host(origin: str, request: HTTPConnection) -> None:
    if urlsplit(origin).netloc.lower() != request.headers.get("host", "").lower():
        raise HTTPException(
            403, "the feed is for this server's own page, and this one is at another host; a proxy has to pass Host on"
        )
