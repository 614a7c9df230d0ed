"""Crash recovery: no face is lost, stored twice or damaged by `kill -9`.

    python -m benchmarks.soak.crash_recovery --model models/face64     -> benchmarks/results/kills.json

A producer puts faces into a spool, a sender drains it, a server stores what comes; each is a process of its own. Again
and again one of them is chosen by chance, killed at a random moment and started again. The faces are handed out over
the kills, so that there is work under way to the last. In the end the spool is drained and the store is held against
what was made. Each face has two frames, its basic layer and all its layers, so that completing one is killed, too.

A kill takes a process with all it has in memory; what was written is with the kernel. A power cut takes that, too, and
is what `synchronous=FULL` of both files is for, but nothing here tries it.

Processes are forked from one that has imported everything, so that a restart takes a fraction of a second. The sender
waits at most 50 ms between two tries and its leases last a second, for the same reason. All state is in `--work`: the
same command goes on where it was stopped.
"""

import contextlib
import http.client
import json
import multiprocessing
import random
import socket
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.record import write
from edge_stscq._files import write_file
from edge_stscq.client.drain import Drain
from edge_stscq.client.sender import Sender
from edge_stscq.client.spool import Spool
from edge_stscq.errors import EdgeError
from edge_stscq.server.settings import ServerSettings
from edge_stscq.stream import CodedFace, FrameCodec

DEVICE = "door-1"
BATCH = 16
LEASE = 1.0
PAUSE = 0.05
DONE_SECONDS = 600
FORKS = multiprocessing.get_context("forkserver")
IMPORTED = [
    "torch",
    "uvicorn",
    "edge_stscq.client.drain",
    "edge_stscq.codec.store",
    "edge_stscq.server.app",
]

Face = list[bytes]
"""The frame of its basic layer and the one of all layers."""


def produce(spool: Path, model_id: bytes, first: int, faces: Sequence[Face]) -> None:
    """Put what is not in the spool yet of faces `first`, `first + 1`, ..."""
    with Spool(spool, DEVICE) as opened:
        for face in faces[opened.status().next - first :]:
            opened.put_bytes(model_id, face, time.time())


def drain(spool: Path, url: str) -> None:
    """Send until killed."""

    def sleep(seconds: float) -> None:
        time.sleep(min(seconds, PAUSE))

    with Spool(spool, DEVICE) as opened, Sender(url, DEVICE, timeout=10, sleep=sleep) as sender:
        Drain(opened, sender, batch=BATCH, lease=LEASE, sleep=sleep).run(follow=True)


def serve(model: Path, store: Path, port: int) -> None:
    """The server with its audit log, as `edge-stscq serve` runs it but for the decoder: nothing is decoded here."""
    import uvicorn

    from edge_stscq.server.app import create_app
    from edge_stscq.server.auth.audit_log import audit_log

    with audit_log(store.with_name("audit.jsonl")):
        app = create_app(ServerSettings(model=(model,), store=store, port=port))
        uvicorn.run(app, port=port, log_level="warning", access_log=False)


class Fleet:
    """The three processes, each started again when it is dead.

    Args:
        work: folder of spool, store and audit log.
        faces: in the order of their numbers.
    """

    def __init__(self, model: Path, work: Path, model_id: bytes, faces: Sequence[Face]) -> None:
        self.spool, self.store, self.audit = work / "faces.spool", work / "faces.db", work / "audit.jsonl"
        self._model, self._model_id, self._faces = model, model_id, faces
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        with Spool(self.spool, DEVICE) as opened:
            self._made = opened.status().next
        self._running: dict[str, BaseProcess] = {}
        FORKS.set_forkserver_preload(IMPORTED)

    def start(self, limit: int) -> None:
        """Start what is not running; faces below `limit` may be put."""
        self._start("server", serve, self._model, self.store, self.port)
        self._start("sender", drain, self.spool, f"http://127.0.0.1:{self.port}")
        producer = self._running.get("producer")
        if producer is None or not producer.is_alive():
            if producer is not None and producer.exitcode == 0:
                self._made = self._limit
            self._limit = limit
            if self._made < limit:
                part = self._faces[self._made : limit]
                self._start("producer", produce, self.spool, self._model_id, self._made, part)

    def _start(self, name: str, target: Callable[..., None], *arguments: object) -> None:
        running = self._running.get(name)
        if running is not None and running.is_alive():
            return
        if running is not None and running.exitcode not in (0, -9):
            raise EdgeError(f"the {name} ended by itself with exit code {running.exitcode}; see its messages above")
        self._running[name] = process = FORKS.Process(target=target, args=arguments, daemon=True)
        process.start()

    def kill_one(self, chance: random.Random) -> str:
        """Kill one of the living; returns its name."""
        name = chance.choice(sorted(name for name, process in self._running.items() if process.is_alive()))
        self._running[name].kill()
        self._running[name].join()
        return name

    def serving(self) -> bool:
        """True if the server answers now."""
        wire = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1)
        try:
            wire.request("GET", "/health")
            return wire.getresponse().status == 200
        except OSError:
            return False
        finally:
            wire.close()

    def finish(self) -> None:
        """Let everything be put and sent, and end the processes.

        Raises:
            EdgeError: faces still wait after ten minutes.
        """
        until = time.monotonic() + DONE_SECONDS
        with Spool(self.spool) as opened:
            while (state := opened.status()).next < len(self._faces) or state.waiting:
                if time.monotonic() > until:
                    raise EdgeError(f"{state.waiting} faces still wait in {self.spool}; look into it")
                self.start(len(self._faces))
                time.sleep(PAUSE)
        self.stop()

    def stop(self) -> None:
        for process in self._running.values():
            process.kill()
            process.join()


def make_faces(codec: FrameCodec, count: int, seed: int = 0) -> list[Face]:
    """Faces of random tokens, no two alike."""
    groups, tokens, entries = codec.entropy.shape
    draw, ends = np.random.default_rng(seed), codec.entropy.layer_ends
    faces = []
    for _ in range(count):
        whole = CodedFace(int(draw.integers(groups)), draw.integers(entries, size=tokens).astype(np.uint16), 3)
        faces.append([codec.encode_frame(whole.truncate(1, ends)), codec.encode_frame(whole)])
    return faces


def judge(fleet: Fleet, faces: Sequence[Face]) -> dict[str, Any]:
    """The store against what was made."""
    with contextlib.closing(sqlite3.connect(fleet.store)) as db:
        rows = db.execute("SELECT sequence, frame FROM faces WHERE device = ?", (DEVICE,)).fetchall()
        (strangers,) = db.execute("SELECT count(*) FROM faces WHERE device <> ?", (DEVICE,)).fetchone()
        (whole,) = db.execute("PRAGMA integrity_check").fetchone()
    numbers, frames = Counter(row[0] for row in rows), Counter(row[1] for row in rows)
    with contextlib.closing(sqlite3.connect(fleet.spool)) as db:
        (spool_whole,) = db.execute("PRAGMA integrity_check").fetchone()
    with Spool(fleet.spool) as opened:
        state = opened.status()
    lines = [json.loads(line) for line in fleet.audit.read_text().splitlines()]
    answers = [line for line in lines if line["what"] == "POST /v1/frames"]
    return {
        "faces": len(faces),
        "lost": len(set(range(len(faces))) - set(numbers)),
        "stored_twice": numbers.total() - len(numbers) + frames.total() - len(frames),
        "corrupt": sum(faces[number][1] != frame for number, frame in rows if number < len(faces)),
        "not_ours": strangers + sum(number >= len(faces) for number in numbers),
        "integrity": {"store": whole, "spool": spool_whole},
        "spool": {name: getattr(state, name) for name in ("taken", "delivered", "dropped", "thinned", "damaged")},
        "requests_logged": len(answers),
        "requests_cut_off": sum(line["outcome"] == 499 for line in answers),
        "requests_refused": sum(line["outcome"] not in (200, 499) for line in answers),
        "frames_sent_again_and_recognised": sum(line.get("duplicate", 0) for line in answers),
    }


def run(model: Path, work: Path, faces: int, kills: int, longest: float, minutes: float) -> dict[str, Any] | None:
    """Kill until `kills` are done, and judge; None if `minutes` were over before.

    Args:
        longest: a process is killed within so many seconds, at random.
    """
    from edge_stscq.codec.store import load_frame_codec

    work.mkdir(parents=True, exist_ok=True)
    codec = load_frame_codec(model)
    made = make_faces(codec, faces)
    path = work / "state.json"
    state = json.loads(path.read_text()) if path.exists() else {"seconds": 0.0, "while_starting": 0, "victims": {}}
    fleet, chance = Fleet(model, work, codec.model_id, made), random.Random()
    began, before = time.monotonic(), state["seconds"]
    try:
        while (done := sum(state["victims"].values())) < kills:
            if time.monotonic() - began > 60 * minutes:
                return None
            fleet.start(faces * (done + 1) // kills)
            patient = chance.random() < 0.5
            while patient and not fleet.serving():
                fleet.start(faces * (done + 1) // kills)
                time.sleep(0.01)
            time.sleep(chance.uniform(0, longest))
            starting = not patient and not fleet.serving()
            victim = fleet.kill_one(chance)
            state["victims"][victim] = state["victims"].get(victim, 0) + 1
            state["while_starting"] += starting
            state["seconds"] = round(before + time.monotonic() - began, 1)
            write_file(path, json.dumps(state).encode())
        fleet.finish()
    finally:
        fleet.stop()
    found = {"kills": kills, **state, "longest_wait": longest, "batch": BATCH, **judge(fleet, made)}
    return found | {"seconds": round(before + time.monotonic() - began, 1)}


def main(
    model: Annotated[Path, typer.Option(help="Model folder.")] = Path("models/face64"),
    work: Annotated[Path, typer.Option(help="Folder of spool, store and progress.")] = Path("out/kills"),
    faces: Annotated[int, typer.Option(min=1, help="Faces of the stream.")] = 20_000,
    kills: Annotated[int, typer.Option(min=1, help="Kills in all.")] = 1000,
    longest: Annotated[float, typer.Option(min=0, help="Most seconds between two kills, beside restarts.")] = 0.3,
    minutes: Annotated[float, typer.Option(min=0, help="Stop after these; the same command goes on.")] = 60,
) -> None:
    """Write benchmarks/results/kills.json."""
    found = run(model, work, faces, kills, longest, minutes)
    if found is None:
        raise EdgeError(f"not done after {minutes:g} minutes; run the same command again to go on")
    typer.echo(write("kills", found))


if __name__ == "__main__":
    typer.run(main)
