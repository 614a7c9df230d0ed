"""Server: uvicorn's, with bounds on connections, and an end that comes in time.

    server = FrontServer(app, proxies=settings.trusted_proxies)
    server.run(sockets=[listener])

A signal lets answers that are under way finish for `GRACE_SECONDS`; then their connections are cut. Whatever still
hangs, a thread that waits for a locked file for example, ends with the process after `END_SECONDS`: what was
acknowledged is committed by then.
"""

import asyncio
import gc
import os
import resource
import socket
import sys
import threading
from types import FrameType
from typing import Any

import uvicorn

from edge_stscq.server.front.address import Network
from edge_stscq.server.front.connections import MAX_CONNECTIONS
from edge_stscq.server.front.protocol import BoundedHttpProtocol, FrontConfig

GRACE_SECONDS = 4.0
END_SECONDS = 9.0
HANDSHAKE_SECONDS = 5.0
"""For the handshake of TLS, and for its farewell."""
BACKLOG = 2048
OPEN_FILES = 4 * MAX_CONNECTIONS
GARBAGE = 50_000, 20, 20
"""Thresholds of the collector of cycles. Frames come and go by the thousand and are in none; at Python's own thresholds
it looks at all that there is again and again, for a tenth of ingest's time."""
MAX_MESSAGE = 1024
"""Bytes of a message on a WebSocket; none is wanted."""


class FrontServer(uvicorn.Server):
    """Server of an application.

    Args:
        proxies: whose connections are no one address's.
        tls: what `server_arguments` made of the certificate.
    """

    config: FrontConfig

    def __init__(self, app: Any, *, proxies: tuple[Network, ...] = (), tls: dict[str, Any] | None = None) -> None:
        super().__init__(FrontConfig(
            app, proxies=proxies, log_level="warning", server_header=False, access_log=False, proxy_headers=False,
            ws_max_size=MAX_MESSAGE, ws_per_message_deflate=False, timeout_graceful_shutdown=6, **tls or {},
        ))  # fmt: skip

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        _allow_open_files()
        gc.set_threshold(*GARBAGE)
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(uvicorn.config.STARTUP_FAILURE)
        loop, tls = asyncio.get_running_loop(), self.config.ssl
        seconds = None if tls is None else HANDSHAKE_SECONDS

        def protocol() -> asyncio.Protocol:
            return BoundedHttpProtocol(self.config, self.server_state, self.lifespan.state)

        self.servers = [
            await loop.create_server(
                protocol, sock=listener, ssl=tls, backlog=BACKLOG,
                ssl_handshake_timeout=seconds, ssl_shutdown_timeout=seconds,
            )
            for listener in sockets or []
        ]  # fmt: skip
        self.started = True

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:
            self.config.open.sweep(asyncio.get_running_loop().time())
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit:
            watchdog = threading.Timer(END_SECONDS, _end, (sig,))
            watchdog.daemon = True
            watchdog.start()
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().call_later(GRACE_SECONDS, self.config.open.abort_all)
        await super().shutdown(sockets)


def _end(sig: int) -> None:
    print(f"warning: something still hung {END_SECONDS:g} seconds after signal {sig}", file=sys.stderr, flush=True)
    os._exit(128 + sig)


def _allow_open_files() -> None:
    """Let this process have as many files open as its connections may need, where its limit can be raised."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
