"""ASGI middleware: request metrics, and load shedding in front of the decoder."""

from collections.abc import Iterator
from contextlib import contextmanager

from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge_stscq.server.decoding.backend import BusyError, DecoderBackend
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


class Admission:
    """Admission of requests for faces to the decoder's queue.

    Whoever is let in counts as queued from then on, so that a thousand who come at once do not all find an empty queue;
    until the picture is made, and not until it is taken.
    """

    def __init__(self, backend: DecoderBackend) -> None:
        self._backend, self._held = backend, 0

    def rejection(self) -> BusyError | None:
        """Error with which a request would be refused now; None if it would be let in."""
        return self._backend.rejection(queued_ahead=max(0, self._held - self._backend.load().in_flight))

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Count a request that has shown a token as let in until the block ends.

        Raises:
            BusyError: there is no room now.
        """
        if (busy := self.rejection()) is not None:
            raise busy
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1


class LoadSheddingMiddleware:
    """Answers requests for faces while they are not admitted, before anything else is done for them.

    Under a flood, refusing must cost next to nothing, so cached pictures are refused with the others.

    Args:
        route: pattern by which a refusal is counted.
    """

    def __init__(self, app: ASGIApp, admission: Admission, route: str) -> None:
        self._app, self._admission = app, admission
        self._route = Route(route, app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asks_for_face = scope["type"] == "http" and scope["path"].endswith(".png")
        if asks_for_face and (busy := self._admission.rejection()) is not None:
            scope["route"] = self._route
            await busy_response(f"busy: {busy}", busy.retry_after)(scope, receive, send)
            return
        await self._app(scope, receive, send)
