"""Floods by who has shown no token, beside a camera that sends: memory, answers to probes, and what is left of ingest.

    python -m benchmarks.server.flood [--model DIR]      -> benchmarks/results/flood.json

`edge-stscq serve` in a process of its own, each flood in another; both and the camera share the processor's cores.
Ingest is that of requests of 16 frames during the flood, beside the same without one, in turns. `memory_growth_mib` is
the most that the server had during the flood, less what it had before. Most of it are the camera's own faces in the
index, so the run without a flood is the control: `memory_beyond_ingest_mib` is the growth less that of the control, for
as many frames. `/health` is asked by a process that does nothing else, and the camera's requests are made before the
watch begins: a program that is busy itself finds every server slow. `ready_locked` holds the store's lock for a while,
so it has no ingest; `post_seconds` is from its release until a request that came meanwhile is acknowledged.
"""

import asyncio
import contextlib
import http.client
import multiprocessing
import socket
import sqlite3
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from itertools import cycle
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from benchmarks.record import write
from benchmarks.released import MODEL
from benchmarks.server.ingest import Target, draw, load, serve, upload, uploads
from benchmarks.server.load import resident_mib
from edge_stscq.bundle import model_folder
from edge_stscq.protocol import STREAMS_PATH
from edge_stscq.stream import FrameCodec, model_id

SIZE = 16
"""Frames in a body."""
FRAMES = 4096
PAUSE = 0.1
"""Before a connection that was cut is opened again."""
LOCKED_SECONDS = 4.0
GET = b"GET /x.png HTTP/1.1\r\nHost: a\r\n"

Flood = Callable[[str, int], Coroutine[Any, Any, None]]


async def opened(host: str, port: int) -> socket.socket:
    """A connection that takes next to nothing of what it is sent."""
    wire = socket.socket()
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    wire.setblocking(False)
    await asyncio.get_running_loop().sock_connect(wire, (host, port))
    return wire


async def again_and_again(count: int, one: Callable[[], Awaitable[None]]) -> None:
    """`count` of them at once, each begun anew when it is cut."""

    async def always() -> None:
        while True:
            with contextlib.suppress(OSError):
                await one()
            await asyncio.sleep(PAUSE)

    await asyncio.gather(*(always() for _ in range(count)))


async def header_bomb(host: str, port: int) -> None:
    """Eight connections: four of header lines without end, four of one line without end."""

    def bomb(beginning: bytes, piece: bytes) -> Callable[[], Awaitable[None]]:
        async def one() -> None:
            loop = asyncio.get_running_loop()
            with await opened(host, port) as wire:
                await loop.sock_sendall(wire, beginning)
                while True:
                    await loop.sock_sendall(wire, piece)

        return one

    lines, line = bomb(GET, b"X-A: b\r\n" * 2048), bomb(GET + b"X-A: ", b"b" * 16384)
    await asyncio.gather(again_and_again(4, lines), again_and_again(4, line))


async def pipelining(host: str, port: int) -> None:
    """Forty connections of 0.4 MB of requests each, whose answers nobody reads."""

    async def one() -> None:
        with await opened(host, port) as wire:
            await asyncio.get_running_loop().sock_sendall(wire, (GET + b"\r\n") * 12_000)
            await asyncio.sleep(60)

    await again_and_again(40, one)


async def stuck_readers(host: str, port: int) -> None:
    """Two hundred and sixty connections that ask for the page's largest part and read nothing."""

    async def one() -> None:
        loop = asyncio.get_running_loop()
        with await opened(host, port) as wire:
            for _ in range(8):
                await loop.sock_sendall(wire, GET.replace(b"x.png", b"page/app.js") + b"\r\n")
            while await loop.sock_recv(wire, 1):  # a byte now and then
                await asyncio.sleep(5)

    await again_and_again(260, one)


async def slow_headers(host: str, port: int) -> None:
    """Two hundred connections that send a byte of their headers a second."""

    async def one() -> None:
        with await opened(host, port) as wire:
            for byte in cycle(GET):
                await asyncio.get_running_loop().sock_sendall(wire, bytes([byte]))
                await asyncio.sleep(1)

    await again_and_again(200, one)


async def silent(host: str, port: int) -> None:
    """Eleven hundred connections that say nothing."""

    async def one() -> None:
        with await opened(host, port) as wire:
            while await asyncio.get_running_loop().sock_recv(wire, 1):
                pass

    await again_and_again(1100, one)


async def ready(host: str, port: int) -> None:
    """Eight connections that ask whether the server is ready, again and again."""

    async def one() -> None:
        reader, writer = await asyncio.open_connection(host, port)
        with contextlib.closing(writer):
            while True:
                writer.write(GET.replace(b"x.png", b"ready") + b"\r\n")
                if not await reader.read(4096):
                    return

    await again_and_again(8, one)


FLOODS: dict[str, Flood] = {
    "header_bomb": header_bomb, "pipelining": pipelining, "stuck_readers": stuck_readers,
    "slow_headers": slow_headers, "silent": silent,
}  # fmt: skip


def run_flood(flood: Flood, host: str, port: int) -> None:
    asyncio.run(flood(host, port))


@contextlib.contextmanager
def flooded(flood: Flood, target: Target) -> Iterator[None]:
    """Run a flood in a process of its own until the block ends."""
    address = urlsplit(target.address)
    process = multiprocessing.get_context("spawn").Process(
        target=run_flood, args=(flood, address.hostname, address.port), daemon=True
    )
    process.start()
    time.sleep(2)  # until it is under way
    try:
        yield
    finally:
        process.kill()
        process.join()


def ask_health(host: str, port: int, end: Connection) -> None:
    """Ask for `/health` ten times a second until `end` is written to; the longest wait and how often it was in vain."""
    longest, unanswered = 0.0, 0
    end.send(None)
    while not end.poll(0.1):
        begin = time.perf_counter()
        wire = http.client.HTTPConnection(host, port, timeout=30)
        with contextlib.closing(wire):
            try:
                wire.request("GET", "/health")
                unanswered += wire.getresponse().status != 200
            except OSError:
                unanswered += 1
        longest = max(longest, time.perf_counter() - begin)
    end.send((longest, unanswered))


class Watch:
    """The most memory of a process, and the longest wait for `/health`, until the block ends."""

    def __init__(self, target: Target, pid: int) -> None:
        self._pid, self._ended = pid, threading.Event()
        self.before = self.most = resident_mib(pid)
        self.health_seconds, self.unanswered = 0.0, 0
        self._thread = threading.Thread(target=self._look)
        address, spawning = urlsplit(target.address), multiprocessing.get_context("spawn")
        self._end, end = spawning.Pipe()
        self._asking = spawning.Process(target=ask_health, args=(address.hostname, address.port, end), daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        self._asking.start()
        self._end.recv()  # it asks now
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._end.send(None)
        self.health_seconds, self.unanswered = self._end.recv()
        self._asking.join()

    def _look(self) -> None:
        while not self._ended.wait(0.05):
            self.most = max(self.most, resident_mib(self._pid))

    @property
    def growth_mib(self) -> float:
        return self.most - self.before

    def figures(self) -> dict[str, Any]:
        return {
            "memory_growth_mib": round(self.growth_mib, 1),
            "health_seconds": round(self.health_seconds, 3),
            "health_unanswered": self.unanswered,
        }


def main(
    model: Annotated[Path, typer.Option(help="Model folder.")] = MODEL,
    seconds: Annotated[float, typer.Option(min=1, help="Of each flood.")] = 20,
) -> None:
    """Write benchmarks/results/flood.json."""
    tables = model_folder.load_tables(model)
    codec = FrameCodec(tables, model_id(model_folder.full_books(model), tables))
    payloads = [codec.payload(face) for face in draw(tables, FRAMES)]
    results: dict[str, Any] = {"seconds": seconds, "frames_in_a_request": SIZE, "floods": {}}

    def made() -> Iterator[bytes]:
        return iter(uploads(codec.model_id, payloads, SIZE, seconds))

    def ingest(target: Target, bodies: Iterator[bytes]) -> float:
        return SIZE * asyncio.run(load(target, bodies, SIZE, seconds))

    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "faces.db"
        with serve(model, str(store), Path(folder)) as target:
            pid = server_pid()
            wait_until_ready(target)
            ingest(target, made())  # warm
            for name, flood in FLOODS.items():
                first, second = made(), made()
                with Watch(target, pid) as control:
                    alone = ingest(target, first)
                with Watch(target, pid) as watch, flooded(flood, target):
                    beside = ingest(target, second)
                beyond = watch.growth_mib - control.growth_mib * beside / alone
                results["floods"][name] = watch.figures() | {
                    "memory_beyond_ingest_mib": round(beyond, 1),
                    "frames_per_second": round(beside, 1), "ingest_share": round(beside / alone, 2),
                }  # fmt: skip
                typer.echo(f"{name}: {results['floods'][name]}", err=True)
            results["floods"]["ready_locked"] = locked(target, pid, store, upload(codec.model_id, payloads[:SIZE]))
            typer.echo(f"ready_locked: {results['floods']['ready_locked']}", err=True)
    typer.echo(write("flood", results))


def wait_until_ready(target: Target) -> None:
    """Wait until the decoder is loaded, too: that takes both cores for a while, flood or not."""
    address = urlsplit(target.address)
    while True:
        wire = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
        with contextlib.closing(wire):
            wire.request("GET", "/ready")
            if wire.getresponse().status == 200:
                return
        time.sleep(1)


def server_pid() -> int:
    """Process of `edge-stscq serve`, a child of this one."""
    children = Path("/proc/thread-self/children").read_text().split()
    (found,) = [pid for pid in children if b"\0serve\0" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return int(found)


def locked(target: Target, pid: int, store: Path, body: bytes) -> dict[str, Any]:
    """Figures while the store is locked and eight ask whether it is ready."""
    watch = Watch(target, pid)
    with contextlib.closing(sqlite3.connect(store, isolation_level=None)) as writer, watch, flooded(ready, target):
        writer.execute("BEGIN IMMEDIATE")
        sender = threading.Thread(target=post_until_stored, args=(target, body))
        sender.start()
        time.sleep(LOCKED_SECONDS)
        writer.execute("ROLLBACK")
        begin = time.perf_counter()
        sender.join()
        seconds = time.perf_counter() - begin
    return watch.figures() | {"post_seconds": round(seconds, 3)}


def post_until_stored(target: Target, body: bytes) -> None:
    address = urlsplit(target.address)
    name, _, value = target.headers.strip().partition(": ")
    while True:
        wire = http.client.HTTPConnection(address.hostname or "", address.port, timeout=120)
        with contextlib.closing(wire), contextlib.suppress(OSError):
            wire.request("POST", STREAMS_PATH, body, {name: value})
            if wire.getresponse().status == 200:
                return
        time.sleep(0.1)


if __name__ == "__main__":
    typer.run(main)
