"""Who may use the /v1 routes, and how much they may send.

With a token, whoever shows it. Without one the server listens on the loopback interface, and answers only requests
that are addressed to it by a loopback name: a web page that points its own host name at 127.0.0.1 is turned away.
"""

import asyncio
import hmac
from collections.abc import Callable

from fastapi import HTTPException, Request

from edge_stscq.server.settings import ServerSettings, is_loopback


def bearer_guard(settings: ServerSettings) -> Callable[[Request], None]:
    """A dependency that lets a request pass or answers 401 (token) or 403 (host)."""
    expected = None if settings.token is None else settings.token.get_secret_value().encode()

    def guard(request: Request) -> None:
        if expected is None:
            host = request.url.hostname or ""
            if not is_loopback(host) and host != settings.host:
                raise HTTPException(403, "this server answers its own machine only; use 127.0.0.1, or set a token")
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        matches = hmac.compare_digest(given.strip().encode(), expected)
        if scheme.lower() != "bearer" or not matches:
            raise HTTPException(401, "a bearer token is needed; set EDGE_STSCQ_TOKEN", {"WWW-Authenticate": "Bearer"})

    return guard


async def read_body(request: Request, settings: ServerSettings) -> bytes:
    """The request's body, counted while it arrives; nothing beyond the limit is kept.

    Raises:
        HTTPException: 413 over `max_body_bytes`, 408 slower than `body_seconds`.
    """
    message = f"the body is over {settings.max_body_bytes} bytes; send fewer frames in a request"
    too_large = HTTPException(413, message, {"Connection": "close"})
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > settings.max_body_bytes:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(settings.body_seconds):
            async for chunk in request.stream():
                if len(body) + len(chunk) > settings.max_body_bytes:
                    raise too_large
                body += chunk
    except TimeoutError:
        message = f"the body took over {settings.body_seconds:g} seconds to arrive"
        raise HTTPException(408, message, {"Connection": "close"}) from None
    return bytes(body)
