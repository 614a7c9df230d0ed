"""Middleware of Ray's proxy, before a request reaches a replica.

The routes count a body while they read it, but the proxy reads ahead of them and keeps what it has read, without a
bound of its own. So it stops reading where the routes will refuse the body anyway; TCP then slows the sender down.
It also forgets the headers by which a client could steer Ray: its timeouts, its batches, and which replica is asked.
"""

import asyncio

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge_stscq.server.settings import ServerSettings

CALLBACK = f"{__name__}.proxy_middlewares"
"""Imported by Ray's proxy, which is told so by RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH."""
MAX_BODY_BYTES: int = ServerSettings.model_fields["max_body_bytes"].default
"""Bytes of a body that the proxy reads; it knows no settings, so this is their default."""
RAY_HEADERS = frozenset(
    {
        b"serve-multiplexed-model-id", b"x-session-id", b"x-request-id", b"x-request-timeout-seconds",
        b"x-request-disconnect-disabled",
    }
)  # fmt: skip


class BoundedBody:
    """Reads no more of a body once over `limit` bytes of it have arrived."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        taken = 0

        async def bounded() -> Message:
            nonlocal taken
            if taken > self._limit:
                await asyncio.Future()  # until the answer, a refusal, has been sent
            message = await receive()
            taken += len(message.get("body", b""))
            return message

        await self._app(scope, bounded, send)


class NoRayHeaders:
    """Leaves out the headers that Ray's proxy would obey."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if "headers" in scope:
            kept = [pair for pair in scope["headers"] if pair[0].replace(b"_", b"-") not in RAY_HEADERS]
            scope = {**scope, "headers": kept}
        await self._app(scope, receive, send)


def proxy_middlewares() -> list[Middleware]:
    """For every request."""
    return [Middleware(BoundedBody, limit=MAX_BODY_BYTES), Middleware(NoRayHeaders)]
