"""A server of its own and a light load for it, for benchmarks that run both on the same cores.

The load shares its core with what it measures, so a request must cost it little: connections are kept alive, requests
are bytes, and of an answer only status, headers and length are read.
"""

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import typer

from edge_stscq._local_servers import local_token
from edge_stscq.client.sender import Sender
from edge_stscq.config.codec import CodecConfig
from edge_stscq.stream import CodedFace
from edge_stscq.stream.frame import FrameCodec

ANSWER_SECONDS = 30.0
"""An answer that takes longer counts as none."""
IDLE_SECONDS = 2.0
"""A connection that was idle for longer is opened anew: the server closes it after 5."""


def random_faces(config: CodecConfig, count: int, seed: int = 0) -> list[CodedFace]:
    """Faces of all layers with tokens drawn evenly: all different."""
    random = np.random.default_rng(seed)
    tokens = random.integers(config.entries, size=(count, config.tokens)).astype(np.uint16)
    return [
        CodedFace(int(group), row, len(config.layers))
        for group, row in zip(random.integers(config.groups, size=count), tokens, strict=True)
    ]


@dataclass(frozen=True)
class Server:
    """A running `edge-stscq serve` on this machine."""

    port: int
    pid: int

    def resident_mib(self) -> float:
        """Memory that is in RAM, in MiB, of it and its decoder."""
        return sum(map(resident_mib, self._processes()))

    def cpu_seconds(self) -> float:
        """Processor time it and its decoder have used, in user and system mode."""
        used = 0
        for pid in self._processes():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            used += int(fields[11]) + int(fields[12])
        return used / os.sysconf("SC_CLK_TCK")

    def _processes(self) -> list[int]:
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [self.pid, *map(int, children)]


def resident_mib(pid: int) -> float:
    """Memory of a process that is in RAM, in MiB."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


@contextlib.contextmanager
def serving(model: Path, *options: str) -> Iterator[Server]:
    """`edge-stscq serve` on a free port, with a store that goes away with it."""
    with tempfile.TemporaryDirectory() as folder:
        limits = ["--requests-per-minute", "1e12", "--bytes-per-minute", "1e15"]
        files = ["--store", f"{folder}/faces.db", "--tokens", f"{folder}/tokens.db", "--audit", f"{folder}/audit.jsonl"]
        words = ["serve", "--model", str(model), "--port", "0", *files, *limits, *options]
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "edge_stscq", *words], stdout=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout is not None
            found = re.search(r"http://127\.0\.0\.1:(\d+)", process.stdout.readline())
            if found is None:
                raise typer.Exit(process.wait())
            yield Server(int(found[1]), process.pid)
        finally:
            process.terminate()
            process.wait()


def fill(server: Server, codec: FrameCodec, faces: list[CodedFace]) -> None:
    """Store `faces` as load-0, load-1, ..."""
    with Sender(f"http://127.0.0.1:{server.port}", "load", batch=256, timeout=120) as sender:
        sender.send_stream(codec.encode_stream(faces))


@dataclass(frozen=True, slots=True)
class Answer:
    """Of one request; `status` is 0 if the connection broke or nothing came in `ANSWER_SECONDS`."""

    status: int
    retry_after: int | None
    seconds: float
    problem: str = ""


class Connection:
    """One keep-alive connection, opened when it is first used."""

    def __init__(self, server: Server) -> None:
        self._port = server.port
        self._bearer = f"Bearer {local_token(f'http://127.0.0.1:{server.port}')}".encode()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._used = 0.0

    async def get_face(self, number: int, since: float | None = None) -> Answer:
        """Ask for the picture of face `number`.

        Args:
            since: `time.perf_counter()` when it should have been asked for; now if None.
        """
        start = time.perf_counter() if since is None else since
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                status, retry_after = await self._ask(number)
        except TimeoutError:
            self.close()
            return Answer(0, None, time.perf_counter() - start, "no answer")
        except (OSError, asyncio.IncompleteReadError) as error:
            self.close()
            return Answer(0, None, time.perf_counter() - start, type(error).__name__)
        return Answer(status, retry_after, time.perf_counter() - start)

    async def _ask(self, number: int) -> tuple[int, int | None]:
        if time.perf_counter() - self._used > IDLE_SECONDS:
            self.close()
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        head = b"GET /v1/faces/load-%d.png HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: %s\r\n\r\n"
        writer.write(head % (number, self._bearer))
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(re.search(rb"content-length: (\d+)", head)[1]))
        self._used = time.perf_counter()
        after = re.search(rb"retry-after: (\d+)", head)
        return int(head.split(b" ", 2)[1]), int(after[1]) if after else None

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


@contextlib.asynccontextmanager
async def connections(server: Server, count: int) -> AsyncIterator[list[Connection]]:
    made = [Connection(server) for _ in range(count)]
    try:
        yield made
    finally:
        for connection in made:
            connection.close()


async def closed_loop(server: Server, numbers: Iterable[int], clients: int) -> list[Answer]:
    """Ask for every face of `numbers` once, each client for its next as soon as it has its last."""
    rest, answers = iter(numbers), []

    async def client(connection: Connection) -> None:
        for number in rest:
            answers.append(await connection.get_face(number))

    async with connections(server, clients) as made:
        await asyncio.gather(*map(client, made))
    return answers
