"""Worker that answers shards in headless Chromium.

    python -m benchmarks.equality.browser ONNXRUNTIME_WEB ENCODER.onnx THREADS

Chromium gives WebAssembly threads only to a page that is isolated from other origins, so the page is served with the
two headers that ask for it. The protocol on standard input and output is that of `benchmarks/equality/worker.py`.
"""

import json
import sys
import tempfile
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from benchmarks.equality.places.web import FOLDER
from benchmarks.equality.worker import READY
from edge_stscq.errors import EdgeError, require

_TYPES = {".html": "text/html", ".mjs": "text/javascript", ".wasm": "application/wasm"}
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
)  # fmt: skip
SECONDS = 3600
"""Time limit of one shard."""


class Files:
    """Files that the page may read, by path, and the file that its answers go to."""

    def __init__(self, package: Path, artifact: Path) -> None:
        self.folders = {"ort": package / "dist", "web": FOLDER}
        self.named = {"artefact": artifact}
        self.answers: Path | None = None

    def find(self, path: str) -> Path | None:
        """The file at a path of the page; None if it may not be read or is not there."""
        first, _, rest = path.lstrip("/").partition("/")
        found = self.folders[first] / rest if first in self.folders and "/" not in rest else self.named.get(first)
        return found if found is not None and found.is_file() else None


class Handler(BaseHTTPRequestHandler):
    """Serve the files and take the answers."""

    def __init__(self, files: Files, *arguments: Any) -> None:
        self._files = files
        super().__init__(*arguments)

    def do_GET(self) -> None:  # noqa: N802 - the base class's name
        path = self._files.find(self.path)
        if path is None:
            self.send_error(404)
            return
        data = path.read_bytes()
        self._head(200, _TYPES.get(path.suffix, "application/octet-stream"), len(data))
        self.wfile.write(data)

    def do_PUT(self) -> None:  # noqa: N802
        if self._files.answers is None:
            self.send_error(409)
            return
        self._files.answers.write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
        self._head(204, "text/plain", 0)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: standard output is the protocol's."""

    def _head(self, status: int, kind: str, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.end_headers()


def main(package: Path, artifact: Path, threads: int) -> None:
    """Serve orders with a browser of our own."""
    webdriver = require("selenium.webdriver", "dev")
    service = require("selenium.webdriver.chrome.service", "dev").Service("/usr/bin/chromedriver")
    files = Files(package, artifact)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, files))
    Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as profile:
        options = webdriver.ChromeOptions()
        for flag in (*_FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=service)
        try:
            driver.set_script_timeout(SECONDS)
            driver.get(f"http://127.0.0.1:{server.server_port}/web/page.html")
            _call(driver, "ready", threads)
            version = json.loads((package / "package.json").read_bytes())["version"]
            browser = driver.capabilities["browserVersion"]
            print(READY + json.dumps({"runtime": f"onnxruntime-web {version}, Chromium {browser}"}), flush=True)
            for line in sys.stdin:
                shard, files.answers = map(Path, line.rstrip("\n").split("\t"))
                files.named["shard"] = shard
                _call(driver, "answer")
                print(READY + "done", flush=True)
        finally:
            driver.quit()
            server.shutdown()


def _call(driver: Any, function: str, *arguments: object) -> None:
    """Wait for one of the page's functions.

    Raises:
        EdgeError: it failed, or the page did not load.
    """
    script = (
        "const [name, ...rest] = arguments, done = rest.pop(), end = Date.now() + 60000;"
        "const go = () => window.loaded ? window[name](...rest).then(() => done(''), e => done(String(e)))"
        " : Date.now() < end ? setTimeout(go, 50) : done('the page did not load');"
        "go();"
    )
    if failed := driver.execute_async_script(script, function, *arguments):
        raise EdgeError(failed)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
    except EdgeError as error:
        sys.exit(f"error: {error}")
