"""The processes of the soak of crash recovery: a server, and cameras of one device, each with a spool of its own.

Processes are forked from one that has imported everything, so that a restart takes a fraction of a second. The senders
wait at most 50 ms between two tries and their leases last a second, for the same reason.
"""

import contextlib
import http.client
import multiprocessing
import random
import socket
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

from edge_stscq._local_servers import noted_server
from edge_stscq.client.drain import Drain
from edge_stscq.client.sender import Sender
from edge_stscq.client.spool import Spool
from edge_stscq.errors import EdgeError
from edge_stscq.server.settings import ServerSettings
from edge_stscq.stream.envelope import CapturedFace

DEVICE = "door-1"
SPOOLS = ("pulled-card", "new-card", "second-tool")
"""Each gets a third of the faces; the first is used until a third of the kills, the others from then on."""
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


def produce(spool: Path, first: int, faces: Sequence[CapturedFace]) -> None:
    """Put what is not in the spool yet of faces `first`, `first + 1`, ..."""
    with Spool(spool, DEVICE) as opened:
        for face in faces[opened.status().next - first :]:
            opened.put(face)


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
    from edge_stscq.server.auth.guard import open_tokens
    from edge_stscq.server.auth.local_token import local_server_token

    settings = ServerSettings(model=(model,), store=store, port=port)
    with audit_log(store.with_name("audit.jsonl")), contextlib.closing(open_tokens(settings)) as tokens:
        local = local_server_token(tokens)
        assert local is not None
        with noted_server(port, local.file):
            uvicorn.run(create_app(settings), port=port, log_level="warning", access_log=False)


class Processes:
    """Processes by name, each started again when it is dead."""

    def __init__(self) -> None:
        self._running: dict[str, BaseProcess] = {}

    def start(self, name: str, target: Callable[..., None], *arguments: object) -> None:
        """Start it if it does not run.

        Raises:
            EdgeError: it ended by itself with an error.
        """
        running = self._running.get(name)
        if running is not None and running.is_alive():
            return
        if running is not None and running.exitcode not in (0, -9):
            raise EdgeError(f"the {name} ended by itself with exit code {running.exitcode}; see its messages above")
        self._running[name] = process = FORKS.Process(target=target, args=arguments, daemon=True)
        process.start()

    def has_finished(self, name: str) -> bool:
        """True if it ended by itself and without an error."""
        return name in self._running and self._running[name].exitcode == 0

    def alive(self, prefix: str = "") -> list[str]:
        return sorted(name for name, one in self._running.items() if name.startswith(prefix) and one.is_alive())

    def kill(self, names: Sequence[str]) -> None:
        for name in names:
            self._running[name].kill()
            self._running[name].join()


class Camera:
    """One spool with the producer and the sender that use it.

    Attributes:
        faces: in the order of their numbers.
    """

    def __init__(self, processes: Processes, path: Path, faces: Sequence[CapturedFace]) -> None:
        self.path, self.faces, self._processes = path, faces, processes
        self._producer, self._sender = f"producer of {path.stem}", f"sender of {path.stem}"
        self._made = self._limit = 0
        if path.exists():
            with Spool(path) as opened:
                self._made = self._limit = opened.status().next

    def start(self, limit: int, url: str) -> None:
        """Start what is not running; faces below `limit` may be put."""
        if not self._processes.alive(self._producer):
            if self._processes.has_finished(self._producer):
                self._made = self._limit
            self._limit = max(limit, self._limit)
            if self._made < self._limit:
                part = self.faces[self._made : self._limit]
                self._processes.start(self._producer, produce, self.path, self._made, part)
        if self.path.exists():
            self._processes.start(self._sender, drain, self.path, url)

    def pull(self) -> int:
        """Kill its processes at once, as by taking the card; returns how many were running."""
        names = [*self._processes.alive(self._producer), *self._processes.alive(self._sender)]
        self._processes.kill(names)
        return len(names)

    def is_done(self) -> bool:
        """True if all its faces were put and sent."""
        if not self.path.exists():
            return not self.faces
        with Spool(self.path) as opened:
            state = opened.status()
        return state.next == len(self.faces) and state.waiting == 0


class Fleet:
    """A server and the cameras of one device.

    Args:
        work: folder of spools, store and audit log.
        faces: of all spools, one after the other.
    """

    def __init__(self, model: Path, work: Path, faces: Sequence[CapturedFace]) -> None:
        self.store, self.audit = work / "faces.db", work / "audit.jsonl"
        self._model, self.processes = model, Processes()
        ends = [len(faces) * (n + 1) // len(SPOOLS) for n in range(len(SPOOLS))]
        parts = [faces[start:end] for start, end in zip((0, *ends), ends, strict=False)]
        self.cameras = [
            Camera(self.processes, work / f"{name}.spool", part) for name, part in zip(SPOOLS, parts, strict=True)
        ]
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        FORKS.set_forkserver_preload(IMPORTED)

    def start(self, progress: float) -> None:
        """Start what should run when this share of the kills, 0 to 1, is done, and is not running."""
        self.processes.start("server", serve, self._model, self.store, self.port)
        pulled, *later = self.cameras
        if progress <= 1 / 3:
            pulled.start(round(3 * progress * len(pulled.faces)), self.url)
        else:
            for camera in later:
                camera.start(round(1.5 * (progress - 1 / 3) * len(camera.faces)), self.url)

    def kill_one(self, chance: random.Random) -> str:
        """Kill one of the living; returns what it was: a producer, a sender or the server."""
        name = chance.choice(self.processes.alive())
        self.processes.kill([name])
        return name.split()[0]

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
        """Put the pulled card back, let everything be put and sent, and end the processes.

        Raises:
            EdgeError: faces still wait after ten minutes.
        """
        until = time.monotonic() + DONE_SECONDS
        while waiting := [camera for camera in self.cameras if not camera.is_done()]:
            if time.monotonic() > until:
                raise EdgeError(f"faces still wait in {waiting[0].path}; look into it")
            self.processes.start("server", serve, self._model, self.store, self.port)
            for camera in waiting:
                camera.start(len(camera.faces), self.url)
            time.sleep(PAUSE)
        self.stop()

    def stop(self) -> None:
        self.processes.kill(self.processes.alive())
