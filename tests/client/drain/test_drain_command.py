"""`edge-stscq spool`: status, drain, retry, drop and purge, each failure in one line."""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from edge_stscq.cli import main
from edge_stscq.client.spool import Spool
from edge_stscq.stream import FrameCodec
from edge_stscq.stream.envelope import CapturedFace
from tests.client.face_server import FaceServer
from tests.client.filled import fill

Made = list[CapturedFace]
Run = Callable[..., tuple[int | str | None, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`run("status", ...)`: exit code, stdout and stderr of `edge-stscq spool`."""

    def call(*arguments: object) -> tuple[int | str | None, str, str]:
        monkeypatch.setattr(sys, "argv", ["edge-stscq", "spool", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code, *capsys.readouterr()

    return call


@pytest.fixture
def url(server: FaceServer) -> Iterator[str]:
    """Where the server is on a real socket."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # noqa: N802 - the name that http.server calls
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, answer = server.answer(self.path, self.headers, body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
    thread.join()


def test_the_commands(run: Run, path: Path, server: FaceServer, url: str, made: Made, tmp_path: Path) -> None:
    with Spool(path, "cam") as spool:
        fill(spool, made[:7])
    code, out, _ = run("status", path, "--json")
    found = json.loads(out)
    assert (code, found["waiting"], found["device"], found["refused"]) == (0, 7, "cam", 0)
    assert found["stream"] == spool.stream_id.hex()
    code, out, _ = run("status", path)
    assert code == 0
    assert spool.stream_id.hex() in out
    code, _, err = run("purge", path)
    assert (code, "7 faces wait" in err, "--yes" in err) == (2, True, True)
    code, out, _ = run("purge", path, "--below", 2, "--yes", "--json")
    assert (code, json.loads(out)) == (0, {"spool": str(path), "purged": 2, "waiting": 5})
    token = tmp_path / "token"
    token.write_text("0123456789abcdef\n")
    code, out, _ = run("drain", path, "--url", url, "--budget", "1MB/s", "--token-file", token, "--json")
    report = json.loads(out)
    assert (code, report["faces"], report["stored"], report["extended"], report["waiting"]) == (0, 5, 5, 5, 0)
    assert server.holds(spool.stream_id, {n: made[n] for n in range(2, 7)})


def test_what_was_refused_is_shown_sent_again_and_dropped(
    run: Run, path: Path, server: FaceServer, url: str, codec: FrameCodec, made: Made
) -> None:
    with Spool(path, "cam") as spool:
        fill(spool, [made[0], *(replace(face, model_id=b"another!") for face in made[1:4])])
    code, out, err = run("drain", path, "--url", url, "--json")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "3 faces" in err
    assert (json.loads(out)["refused"], json.loads(out)["waiting"]) == (3, 0)
    code, out, _ = run("status", path, "--json")
    assert json.loads(out)["refusals"] == {"unknown-model": 3}
    code, out, _ = run("status", path)
    assert (code, "unknown-model: 3 faces (1, 2, 3): model " in out, "spool retry" in out) == (0, True, True)
    server.learn(codec, FrameCodec(codec.entropy, b"another!"))
    code, out, _ = run("retry", path, "--json")
    assert (code, json.loads(out)) == (0, {"spool": str(path), "retried": 3, "waiting": 3})
    server.learn(codec)
    assert run("drain", path, "--url", url)[0] == 2
    code, _, err = run("drop", path)
    assert (code, "3 refused faces" in err, "--yes" in err) == (2, True, True)
    code, out, _ = run("drop", path, "--yes", "--json")
    assert (code, json.loads(out)) == (0, {"spool": str(path), "dropped": 3, "waiting": 0})
    assert run("drain", path, "--url", url)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--budget", "2kB"], "is not a budget"),
        (["--token-file", "/nowhere/token"], "cannot read a token"),
        (["--url", "edge.test"], "not a server address"),
        (["--url", "http://127.0.0.1:9", "--attempts", "1"], "1 faces wait in the spool"),
    ],
)
def test_what_cannot_be_drained_is_one_line_and_stays(
    run: Run, path: Path, made: Made, arguments: list[str], words: str
) -> None:
    with Spool(path, "cam") as spool:
        fill(spool, made[:1])
        code, _, err = run("drain", path, *arguments)
        assert (code, len(err.splitlines())) == (2, 1)
        assert words in err
        assert (spool.waiting, spool.status().leased) == (1, 0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:1"), ("HTTP_PROXY", "http://127.0.0.1:port"), ("HTTPS_PROXY", "ftp://proxy"),
        ("SSL_CERT_FILE", "/nowhere"), ("SSL_CERT_FILE", __file__),
    ],
)  # fmt: skip
def test_surroundings_that_allow_no_connection_are_one_line(
    run: Run, path: Path, made: Made, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with Spool(path, "cam") as spool:
        fill(spool, made[:1])
        code, _, err = run("drain", path, "--url", "http://127.0.0.1:9")
        assert (code, len(err.splitlines()), spool.waiting) == (2, 1, 1)
        assert "no connection can be made" in err
        assert name in err
