"""A drain sends everything once, basic layers first and within its budget, and may be killed at any moment."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue

import httpx2
import pytest

from edge_stscq.cli import main
from edge_stscq.client.byte_budget import Budget, ByteLimiter
from edge_stscq.client.drain import Drain
from edge_stscq.client.sender import Sender
from edge_stscq.client.spool import Spool
from edge_stscq.errors import EdgeError
from edge_stscq.server.storage.face_store import ValidatedFrame
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from edge_stscq.stream import FrameCodec, stream_model_id
from edge_stscq.stream.frame import split_stream

Made = list[list[bytes]]


class Server:
    """What the server does with frames, on its own store, without a decoder.

    Attributes:
        outcomes: what became of each frame, by face.
        arrivals: time, first face, layers of the frames, and bytes of each request.
    """

    def __init__(self, store: SqlFaceStore, codec: FrameCodec, clock: Callable[[], float] = time.monotonic) -> None:
        self.store, self.codec, self.clock = store, codec, clock
        self.outcomes: Counter[tuple[int, str]] = Counter()
        self.arrivals: list[tuple[float, int, list[int], int]] = []
        self.script: list[int] = []

    def accept(self, device: str, first: int, body: bytes) -> dict[str, object]:
        assert stream_model_id(body) == self.codec.model_id
        frames = [ValidatedFrame(frame, frame[0]) for frame in split_stream(body)[1]]
        outcomes = self.store.accept(device, first, self.codec.model_id, frames, self._same)
        self.outcomes.update(zip(range(first, first + len(frames)), outcomes, strict=True))
        counts = {name: outcomes.count(name) for name in ("stored", "extended", "duplicate")}
        return {"device": device, "first": first, "count": len(frames)} | counts

    def _same(self, old: bytes, new: bytes) -> bool:
        layers = min(old[0], new[0])
        ends = self.codec.entropy.layer_ends
        first, second = (self.codec.decode_frame(frame)[0].truncate(layers, ends) for frame in (old, new))
        return first == second

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        lines = [f"{request.method} {request.url.path} HTTP/1.1", *map(": ".join, request.headers.items()), ""]
        size = sum(len(line) + 2 for line in lines) + len(request.content)
        first, frames = int(request.headers["Edge-Sequence"]), split_stream(request.content)[1]
        self.arrivals.append((self.clock(), first, [frame[0] for frame in frames], size))
        if self.script and (status := self.script.pop(0)) != 200:
            return httpx2.Response(status, json={"error": "as told"})
        return httpx2.Response(200, json=self.accept(request.headers["Edge-Device"], first, request.content))

    def complete(self, made: Made, count: int) -> bool:
        """Whether each of `count` faces is stored, with all its layers and no other."""
        rows = self.store.page(0, count + 1)
        return {row.sequence: row.frame for row in rows} == {n: made[n % len(made)][1] for n in range(count)}


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def server(path: Path, codec: FrameCodec) -> Iterator[Server]:
    store = SqlFaceStore(path.with_name("faces.db"))
    yield Server(store, codec)
    store.close()


@pytest.fixture
def spool(path: Path) -> Iterator[Spool]:
    with Spool(path, "cam") as opened:
        yield opened


def fill(spool: Spool, codec: FrameCodec, made: Made, count: int) -> None:
    for number in range(count):
        spool.put_bytes(codec.model_id, made[number % len(made)], 0.0)


def sender(server: Server, pauses: list[float], **changes: object) -> Sender:
    return Sender("http://edge.test", "cam", transport=httpx2.MockTransport(server), sleep=pauses.append, **changes)


def test_basic_layers_go_first_and_are_completed(spool: Spool, server: Server, codec: FrameCodec, made: Made) -> None:
    fill(spool, codec, made, 5)
    steps = []
    with sender(server, []) as edge:
        drain = Drain(spool, edge, batch=2)
        drain.run(on_progress=lambda report: steps.append(report.faces))
    sent = [(first, layers) for _, first, layers, _ in server.arrivals]
    assert sent == [(0, [1, 1]), (2, [1, 1]), (4, [1]), (0, [3, 3]), (2, [3, 3]), (4, [3])]
    assert steps == [0, 0, 0, 2, 4, 5]
    report = drain.report
    assert (report.faces, report.frames, report.stored, report.extended, report.duplicate) == (5, 10, 5, 5, 0)
    assert (report.requests, report.retries) == (6, 0)
    assert server.complete(made, 5)


def test_whole_faces_go_once(spool: Spool, server: Server, codec: FrameCodec, made: Made) -> None:
    fill(spool, codec, made, 5)
    with sender(server, []) as edge:
        Drain(spool, edge, full_frames_only=True).run()
    assert [(first, layers) for _, first, layers, _ in server.arrivals] == [(0, [3] * 5)]
    assert server.complete(made, 5)


def test_what_may_pass_is_tried_again_and_a_refusal_keeps_all(
    spool: Spool, server: Server, codec: FrameCodec, made: Made
) -> None:
    fill(spool, codec, made, 5)
    server.script = [503, 200, 503, 503]
    pauses: list[float] = []
    with sender(server, pauses, attempts=2) as edge:
        drain = Drain(spool, edge, batch=3)
        with pytest.raises(EdgeError, match=r"gave up after 2 tries.*\(5 faces wait in the spool\)"):
            drain.run()
        assert (drain.report.frames, drain.report.requests, drain.report.retries, len(pauses)) == (3, 4, 1, 2)
        server.script = [409]
        with pytest.raises(EdgeError, match="refused frames from number 3: 409 as told"):
            drain.run()
        assert (spool.status().leased, spool.status().basic_waiting) == (0, 2)
        drain.run()
    assert server.complete(made, 5)


def test_following_outlasts_an_outage(spool: Spool, server: Server, codec: FrameCodec, made: Made) -> None:
    fill(spool, codec, made, 2)
    server.script = [503] * 5
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if spool.waiting == 0:
            raise KeyboardInterrupt

    with sender(server, [], attempts=2) as edge, pytest.raises(KeyboardInterrupt):
        Drain(spool, edge, sleep=wait).run(follow=True)
    assert len(waits) == 3
    assert all(15 <= seconds <= 30 for seconds in waits[:2])
    assert server.complete(made, 2)


def test_no_minute_has_more_bytes_than_the_budget(spool: Spool, server: Server, codec: FrameCodec, made: Made) -> None:
    clock, chance = Time(), random.Random(3)
    server.clock = clock
    fill(spool, codec, made, 300)
    server.script = [chance.choice((200, 200, 503)) for _ in range(60)]
    bucket = ByteLimiter(Budget(2000, 60), clock, clock.sleep)
    with Sender("http://edge.test", "cam", transport=httpx2.MockTransport(server), sleep=clock.sleep) as edge:
        drain = Drain(spool, edge, bucket, sleep=clock.sleep)
        drain.run()
    sizes = [(at, size) for at, _, _, size in server.arrivals]
    assert all(size <= 2000 for _, size in sizes)
    for first, (begin, _) in enumerate(sizes):
        total = 0
        for at, size in sizes[first:]:
            total += size
            assert total <= 2000 + (at - begin) * 2000 / 60 + 0.01
    sent = sum(size for _, size in sizes)
    assert sent <= drain.report.bytes <= sent + 30 * len(sizes)
    assert (clock.now - 1000) * 2000 / 60 <= drain.report.bytes
    basic = [at for at, _, layers, _ in server.arrivals if layers[0] == 1]
    assert max(basic) - 1000 < (clock.now - 1000) / 4
    assert server.complete(made, 300)


def test_a_request_has_the_bytes_that_are_counted() -> None:
    got = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # noqa: N802 - the name that http.server calls
            body = self.rfile.read(int(self.headers["Content-Length"]))
            lines = [self.requestline, *map(": ".join, self.headers.items()), ""]
            got.append(sum(len(line) + 2 for line in lines) + len(body))
            answer = b'{"device": "cam", "first": 0, "count": 1, "stored": 1, "extended": 0, "duplicate": 0}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        counted: list[int] = []
        with Sender(f"http://127.0.0.1:{http.server_port}", "cam", token="t" * 16) as edge:
            edge.send_batch(b"h" * 13, [b"f" * 60], 2**53 - 1, counted.append)
        http.shutdown()
    assert got[0] <= counted[0] <= got[0] + 8


VICTIMS = """
import os, sys
from pathlib import Path
from time import sleep
from edge_stscq.client.drain import Drain
from edge_stscq.client.sender import Sender
from edge_stscq.client.spool import Spool
for _ in sys.stdin:
    pid = os.fork()
    if pid == 0:
        with Spool(Path(sys.argv[1])) as spool, Sender(sys.argv[2], spool.device, pause=0.01) as sender:
            Drain(spool, sender, batch=3, lease=0.2, sleep=lambda seconds: sleep(0.02)).run()
        os._exit(0)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""
"""Starts a process for each line it reads, so that none has to import everything again."""
FACES = 240
KILLS = 20


class Killer:
    """A server on a real socket that kills its client with SIGKILL at a random point of a random request."""

    def __init__(self, server: Server) -> None:
        self.server, self.chance = server, random.Random(7)
        self.victim: Queue[int] = Queue()
        self.points: Counter[str] = Counter()
        self.left = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:  # noqa: N802 - the name that http.server calls
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.left -= 1
                point = outer.point if outer.left == 0 else ""
                if point == "before":
                    outer.kill()
                answer = server.accept(self.headers["Edge-Device"], int(self.headers["Edge-Sequence"]), body)
                if point == "stored":
                    outer.kill()
                text = json.dumps(answer).encode()
                try:
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(text)))
                    self.end_headers()
                    self.wfile.write(text)
                except OSError:
                    self.close_connection = True
                if point == "answered":
                    time.sleep(outer.chance.uniform(0, 0.01))
                    outer.kill()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.handle_error = lambda request, address: None  # type: ignore[method-assign]

    def arm(self, number: int) -> None:
        self.point = ("before", "stored", "answered")[number % 3]
        self.left = self.chance.randint(1, 6)

    def kill(self) -> None:
        os.kill(self.victim.get(timeout=60), signal.SIGKILL)
        self.points[self.point] += 1


def test_drain_killed_at_twenty_points_stores_each_face_once(
    path: Path, server: Server, codec: FrameCodec, made: Made
) -> None:
    """A drain killed at twenty points loses nothing and stores nothing twice."""
    with Spool(path, "cam") as spool:
        fill(spool, codec, made, FACES)
        killer = Killer(server)
        url = f"http://127.0.0.1:{killer.http.server_port}"
        thread = threading.Thread(target=killer.http.serve_forever, daemon=True)
        thread.start()
        codes = []
        command = [sys.executable, "-c", VICTIMS, str(path), url]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as victims:
            assert victims.stdin is not None
            assert victims.stdout is not None
            for number in range(KILLS + 1):
                if number < KILLS:
                    killer.arm(number)
                victims.stdin.write("next\n")
                killer.victim.put(int(victims.stdout.readline()))
                codes.append(int(victims.stdout.readline()))
        killer.http.shutdown()
        thread.join()
        killer.http.server_close()
        state = spool.status()
    assert codes == [-signal.SIGKILL] * KILLS + [0]
    assert (sum(killer.points.values()), len(killer.points)) == (KILLS, 3)
    assert server.complete(made, FACES)
    assert {n: server.outcomes[n, "stored"] for n in range(FACES)} == dict.fromkeys(range(FACES), 1)
    assert {n: server.outcomes[n, "extended"] for n in range(FACES)} == dict.fromkeys(range(FACES), 1)
    assert sum(server.outcomes.values()) > 2 * FACES
    assert (state.waiting, state.delivered, state.dropped) == (0, FACES, 0)


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int | str | None, str, str]]:
    """`run("status", ...)`: exit code, stdout and stderr of `edge-stscq spool`."""

    def call(*arguments: object) -> tuple[int | str | None, str, str]:
        monkeypatch.setattr(sys, "argv", ["edge-stscq", "spool", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code, *capsys.readouterr()

    return call


Run = Callable[..., tuple[int | str | None, str, str]]


def test_the_commands(run: Run, path: Path, server: Server, codec: FrameCodec, made: Made, tmp_path: Path) -> None:
    with Spool(path, "cam") as spool:
        fill(spool, codec, made, 7)
    code, out, _ = run("status", path, "--json")
    assert (code, json.loads(out)["waiting"], json.loads(out)["device"]) == (0, 7, "cam")
    code, out, _ = run("status", path)
    assert code == 0
    assert "the next face is cam-7" in " ".join(out.split())
    code, _, err = run("purge", path)
    assert (code, "7 faces wait" in err, "--yes" in err) == (2, True, True)
    code, out, _ = run("purge", path, "--below", 2, "--yes", "--json")
    assert (code, json.loads(out)) == (0, {"spool": str(path), "purged": 2, "waiting": 5})
    token = tmp_path / "token"
    token.write_text("0123456789abcdef\n")
    killer = Killer(server)
    threading.Thread(target=killer.http.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{killer.http.server_port}"
    code, out, _ = run("drain", path, "--url", url, "--budget", "1MB/s", "--token-file", token, "--json")
    killer.http.shutdown()
    killer.http.server_close()
    report = json.loads(out)
    assert (code, report["faces"], report["stored"], report["extended"], report["waiting"]) == (0, 5, 5, 5, 0)
    assert sorted(row.sequence for row in server.store.page(0, 9)) == [2, 3, 4, 5, 6]


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
    run: Run, path: Path, codec: FrameCodec, made: Made, arguments: list[str], words: str
) -> None:
    with Spool(path, "cam") as spool:
        fill(spool, codec, made, 1)
        code, _, err = run("drain", path, *arguments)
        assert (code, len(err.splitlines())) == (2, 1)
        assert words in err
        assert (spool.waiting, spool.status().leased) == (1, 0)


def test_sender_drains_a_spool_of_its_own_device(server: Server, spool: Spool, codec: FrameCodec, made: Made) -> None:
    fill(spool, codec, made, 3)
    with sender(server, []) as edge:
        report = edge.drain(spool, budget="1MB/s")
        assert (report.faces, spool.waiting, server.complete(made, 3)) == (3, 0, True)
        with pytest.raises(EdgeError, match="is not a budget"):
            edge.drain(spool, budget="2kB")
    with Sender("http://edge.test", "other") as edge, pytest.raises(EdgeError, match="spool is of device cam"):
        edge.drain(spool)
