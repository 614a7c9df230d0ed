"""ASGI middleware: request metrics, and load shedding in front of the decoder."""

from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge_stscq.server.decoding.backend import DecoderBackend
from edge_stscq.server.errors import busy_response
from edge_stscq.server.metrics import Metrics

METHODS = frozenset({"GET", "HEAD", "POST"})
"""Methods that are counted by their name."""


class RequestMetricsMiddleware:
    """Counts each HTTP request by the pattern of its route and its status."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._requests = app, metrics.requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status = 500

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            if scope["type"] == "http":
                method = scope["method"] if scope["method"] in METHODS else "other"
                self._requests.labels(method, getattr(scope.get("route"), "path", "none"), status).inc()


class LoadSheddingMiddleware:
    """Answers requests for faces while `backend` refuses them, before anything else is done for them.

    Under a flood, refusing must cost next to nothing, so cached pictures are refused with the others. Whoever is let in
    counts as queued from then on, so that a thousand who come at once do not all find an empty queue.

    Args:
        route: pattern by which a refusal is counted.
    """

    def __init__(self, app: ASGIApp, backend: DecoderBackend, route: str) -> None:
        self._app, self._backend, self._in_flight = app, backend, 0
        self._route = Route(route, app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].endswith(".png"):
            await self._app(scope, receive, send)
            return
        admitted_ahead = max(0, self._in_flight - self._backend.load().in_flight)
        if (busy := self._backend.rejection(queued_ahead=admitted_ahead)) is not None:
            scope["route"] = self._route
            await busy_response(f"busy: {busy}", busy.retry_after)(scope, receive, send)
            return
        self._in_flight += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._in_flight -= 1
