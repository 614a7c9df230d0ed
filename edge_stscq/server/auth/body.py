"""Request body, read with limits on size and time: a declared length may be absent or a lie."""

import asyncio
from collections.abc import Callable

from fastapi import HTTPException, Request

from edge_stscq.server.settings import ServerSettings


async def read_body(
    request: Request, settings: ServerSettings, on_bytes: Callable[[int], None] = lambda size: None
) -> bytes:
    """All of the body; nothing beyond the limit is kept.

    Args:
        on_bytes: called with the size of each piece as it arrives, also of one that is refused.

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
                on_bytes(len(chunk))
                if len(body) + len(chunk) > settings.max_body_bytes:
                    raise too_large
                body += chunk
    except TimeoutError:
        message = f"the body took over {settings.body_seconds:g} seconds to arrive"
        raise HTTPException(408, message, {"Connection": "close"}) from None
    return bytes(body)
