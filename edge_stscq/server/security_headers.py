"""Security headers of every response: a browser neither keeps, frames, guesses nor leaks what it shows.

Pages of this server load scripts, styles and pictures from itself alone, never inline; `blob:` is how a page shows a
picture that it fetched with its token.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECURITY_HEADERS = {
    "Cache-Control": "private, no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
HSTS = "max-age=31536000"
"""Sent over TLS only: for a year, a browser speaks nothing else with this name."""
_PLAIN = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
_TLS = [*_PLAIN, (b"strict-transport-security", HSTS.encode())]


class SecurityHeadersMiddleware:
    """Middleware that adds what the answer does not set itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name for name, _ in message["headers"]}
                headers = _TLS if scope["scheme"] == "https" else _PLAIN
                message["headers"] = [*message["headers"], *(each for each in headers if each[0] not in given)]
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)
