"""A drain may be killed at any moment: nothing is lost, and nothing is stored twice."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue

from edge_stscq.client.spool import Spool
from edge_stscq.stream.envelope import CapturedFace
from tests.client.face_server import FaceServer
from tests.client.filled import fill

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

    def __init__(self, server: FaceServer) -> None:
        self.chance = random.Random(7)
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
                status, answer = server.answer(self.path, self.headers, body)
                if point == "stored":
                    outer.kill()
                text = answer.encode()
                try:
                    self.send_response(status)
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


def test_a_drain_killed_at_twenty_points_loses_nothing_and_stores_nothing_twice(
    path: Path, server: FaceServer, made: list[CapturedFace]
) -> None:
    with Spool(path, "cam") as spool:
        fill(spool, made * (FACES // 60))
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
    assert server.holds(spool.stream_id, {n: made[n % 60] for n in range(FACES)})
    results = server.results(spool.stream_id)
    assert {n: (results[n]["stored"], results[n]["extended"]) for n in range(FACES)} == dict.fromkeys(
        range(FACES), (1, 1)
    )
    assert sum(found.total() for found in results.values()) > 2 * FACES
    assert (state.waiting, state.delivered, state.dropped, state.refused) == (0, FACES, 0, 0)
