"""HTTP and WebSocket protocols with bounds on what has shown no token yet.

uvicorn's parser reads headers for as long as they come, and requests for as long as they are pipelined. Here both are
counted, in pieces of `PIECE_BYTES`, before the parser has them; what is slow, silent or takes no answer, `Connections`
cuts. Nothing is logged of it: a stranger must not write into a log at will.
"""

import asyncio
from typing import Any

import httptools
from uvicorn._types import ASGISendEvent
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from edge_stscq.server.front.address import Network, address_key, is_trusted, parse_address
from edge_stscq.server.front.connections import Connections

MAX_HEAD_BYTES = 32 << 10
"""Of a request that are not its body: its line, headers, and the framing and trailers of a chunked body."""
MAX_HEADERS = 100
MAX_PIPELINED = 16
"""Requests that may wait for the answer to the one before."""
PIECE_BYTES = 8 << 10


class FrontConfig(Config):
    """uvicorn's configuration of the protocols below.

    Args:
        proxies: whose connections are no one address's.
    """

    def __init__(self, app: Any, *, proxies: tuple[Network, ...] = (), **options: Any) -> None:
        super().__init__(app, http=BoundedHttpProtocol, ws=CountedWebSocketProtocol, **options)
        self.open, self.proxies = Connections(), proxies


class _TooMuchError(Exception):
    pass


class _Outlet:
    """Transport that lets what is written after its end pass, as asyncio's own does.

    uvloop's raises, and the application would log at the will of whoever hangs up or is cut.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)


class BoundedHttpProtocol(HttpToolsProtocol):
    """HTTP/1.1 of one connection."""

    config: FrontConfig

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:  # fmt: skip
        super().__init__(config, server_state, app_state, _loop)
        self._head_bytes = 0  # of the present message, body aside
        self._in_head = True
        self._body_bytes = 0  # of the present piece

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(_Outlet(transport))  # type: ignore[arg-type]
        address = parse_address(self.client[0]) if self.client else None
        key = None if address is None or is_trusted(address, self.config.proxies) else address_key(address)
        if not self.config.open.admit(self.transport, key, self.loop.time()):
            self._refuse(503, "too many connections; try again later")

    def connection_lost(self, exc: Exception | None) -> None:
        self.config.open.leave(self.transport)
        self.pipeline.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        for begin in range(0, len(data), PIECE_BYTES):
            if self.transport.is_closing() or self.parser is None:
                return
            piece, self._body_bytes = data[begin : begin + PIECE_BYTES], 0
            try:
                self.parser.feed_data(piece)
            except httptools.HttpParserUpgrade:
                if self._should_upgrade():
                    self.handle_websocket_upgrade()
                return
            except httptools.HttpParserCallbackError as error:
                if not isinstance(error.__context__, _TooMuchError):
                    raise
                self._refuse(431, "the request has too many headers or too many others behind it")
                return
            except httptools.HttpParserError:
                self._refuse(400, "this is not a request of HTTP/1.1")
                return
            self._head_bytes += len(piece) - self._body_bytes
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(431, f"the headers are over {MAX_HEAD_BYTES} bytes")
                return

    def _refuse(self, status: int, message: str) -> None:
        """Answer and hang up; hang up alone where an answer would get into another one."""
        if self.pipeline or (self.cycle is not None and not self.cycle.response_complete):
            self.transport.abort()
            return
        body = f'{{"error":"{message}"}}'
        self.transport.write(
            f"HTTP/1.1 {status} Refused\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            f"Connection: close\r\nRetry-After: 1\r\n\r\n{body}".encode()
        )
        self.transport.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a trailer, for which nobody asks
        if len(self.headers) >= MAX_HEADERS:
            raise _TooMuchError
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()
        if len(self.pipeline) > MAX_PIPELINED:
            raise _TooMuchError
        self.config.open.set_waiting(self.transport, None)

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._head_bytes, self._in_head = 0, True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete:
            self.config.open.set_waiting(self.transport, self.loop.time())


class CountedWebSocketProtocol(WebSocketsSansIOProtocol):
    """A connection that has become a WebSocket; `BoundedHttpProtocol` let it in."""

    config: FrontConfig

    def connection_lost(self, exc: Exception | None) -> None:
        self.config.open.leave(self.transport)
        super().connection_lost(exc)

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            self.handshake_complete = True  # it was refused, which uvicorn would log as a defect of the application
