"""Camera that gives MJPEG over HTTP (`multipart/x-mixed-replace`), and can be cut and made to stall."""

import base64
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class MjpegCamera:
    """The camera: each connection gets the pictures in turn, again and again, one every 20 ms."""

    pictures: Sequence[bytes]
    """JPEG files."""
    account: str | None = None
    """`user:password` that it asks for."""
    cut_after: int | None = None
    """Pictures after which a connection is cut."""
    stall_after: int | None = None
    """Pictures after which a connection gives nothing any more."""
    connections: int = 0
    port: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def place(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"


@contextmanager
def serve_mjpeg(camera: MjpegCamera) -> Iterator[MjpegCamera]:
    """Run the camera on a free port while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802
            camera.connections += 1
            if camera.account is not None:
                wanted = "Basic " + base64.b64encode(camera.account.encode()).decode()
                if self.headers.get("Authorization") != wanted:
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="camera"')
                    self.end_headers()
                    return
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            with suppress(OSError):  # the client may go away
                self._send()

        def _send(self) -> None:
            number = 0
            while not camera.over.wait(0.02):
                if number == camera.cut_after:
                    return
                if number == camera.stall_after:
                    camera.over.wait()
                    return
                data = camera.pictures[number % len(camera.pictures)]
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                self.wfile.write(head.encode() + data + b"\r\n")
                number += 1

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    camera.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield camera
    finally:
        camera.over.set()
        server.shutdown()
        thread.join()
        server.server_close()
