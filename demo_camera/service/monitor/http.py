"""HTTP on a local port: `/metrics`, `/health` and `/ready`."""

import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from edge_stscq.errors import EdgeError

_TIMEOUT = 5.0
"""Seconds that a client may take."""
_MOST = 16
"""Requests at one time; further connections are closed."""

PLAIN = "text/plain; charset=utf-8"

Page = Callable[[], tuple[HTTPStatus, str, bytes]]
"""Status, content type and content."""


class MonitorServer(ThreadingHTTPServer):
    """Server of pages by their path.

    Args:
        port: 0 takes a free one.

    Raises:
        EdgeError: the port cannot be had.
    """

    daemon_threads = True

    def __init__(self, host: str, port: int, pages: dict[str, Page]) -> None:
        self.pages, self._room = pages, threading.BoundedSemaphore(_MOST)
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise EdgeError(
                f"cannot listen on {host}:{port}: {error.strerror}; choose another port in [metrics]"
            ) from None

    def start(self) -> None:
        """Answer in the background until `stop`."""
        threading.Thread(target=self.serve_forever, args=(0.1,), name="monitor", daemon=True).start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()

    def process_request(self, request, client_address) -> None:  # type: ignore[no-untyped-def]
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request, client_address) -> None:  # type: ignore[no-untyped-def]
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request, client_address) -> None:  # type: ignore[no-untyped-def]
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    timeout = _TIMEOUT
    server: MonitorServer
    server_version, sys_version = "edge-stscq", ""

    def do_GET(self) -> None:
        page = self.server.pages.get(self.path.partition("?")[0])
        if page is None:
            status, kind, content = HTTPStatus.NOT_FOUND, PLAIN, f"there are {', '.join(self.server.pages)}\n".encode()
        else:
            status, kind, content = page()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *arguments: object) -> None:
        """Probes come every few seconds."""
