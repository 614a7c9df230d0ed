"""Ten million malformed frames and requests: is anything but a refusal raised, and how much memory does it take?

    python -m benchmarks.soak.malformed_input --count 10000000     -> benchmarks/results/malformed.json

Five kinds, in this order, all of both versions of the wire format:

    flips      every single bit of 1,000 frames of version 1, and of 1,000 files of version 2 that hold one frame with
               its envelope, turned over, in turn; every one must be refused
    socket     bodies as of `parser` to `edge-stscq serve` in a process of its own, over TCP, some cut off in the middle
    app        requests with such bodies and hostile headers to the whole application, in this process
    sealed     frames and files that were damaged or made up, under checksums that are right: refused, or read back
               exactly
    parser     frames and files cut, mixed, damaged or made up: refused, or read back exactly

What breaks the properties of `fuzz.properties` ends the run with the input. Of the parser, the most bytes that were
allocated at a time are traced on two inputs of every thousand; of the application and the server, how much the process
grew after its first requests. Progress is kept in `--work`: the same command goes on where it was stopped. Damage may
leave a whole file (one frame of three cut away, another payload under its checksum): such inputs were accepted, and are
counted apart.
"""

import contextlib
import json
import random
import resource
import socket
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.record import write
from benchmarks.released import MODEL
from edge_stscq._files import write_file
from edge_stscq._local_servers import local_token
from edge_stscq.errors import EdgeError
from edge_stscq.protocol import FRAMES_PATH, STREAMS_PATH
from edge_stscq.stream.wire import PREAMBLE, read_frames, write_sections, write_stream
from fuzz.properties import PROPERTIES, codec, reads
from fuzz.sealing import sealed
from fuzz.seeds import KEY, faces, wire_frames

FRAMES = 1000
"""Of each version."""
APP_SHARE, SOCKET_SHARE, SEALED_SHARE = 0.001, 0.0005, 0.1
CHUNK = 5000
"""Inputs between two notes of progress."""
PARSER_BOUND = 1 << 20
"""Bytes that reading one input of a few frames may allocate at a time."""
GROWTH_BOUND = 32 << 20
"""Bytes that the application or the server may grow by after its first requests."""


class Maker:
    """Malformed inputs, made from 1,000 faces in both versions.

    Attributes:
        flipped: frames of version 1 and files of version 2 whose every bit is turned over.
        flips: how many bits that are.
    """

    def __init__(self) -> None:
        whole = faces(FRAMES, seed=1)
        self.frames = [codec().encode_frame(face) for face in whole]
        frames = wire_frames(whole)
        self.sections = [
            write_sections(frames[at : at + size], KEY) for at in range(FRAMES) for size in (1, 1, 1, 1, 2, 3)
        ]
        self.flipped = self.frames + [write_stream([frame], KEY) for frame in frames]
        self.flips = sum(8 * len(data) for data in self.flipped)

    def damaged(self, chance: random.Random, version: int) -> bytes:
        """A file of one to three frames, or of more in sections, that was cut, mixed, damaged or made up."""
        header, parts = (codec().header(), self.frames) if version == 1 else (PREAMBLE, self.sections)
        body = bytearray(header + b"".join(chance.choices(parts, k=chance.choice((1, 1, 1, 1, 1, 1, 1, 2, 3)))))
        for _ in range(chance.randrange(1, 4)):
            at, size = chance.randrange(len(body) + 1), chance.randrange(9)
            kind = chance.randrange(5)
            if kind == 0:
                del body[at:]
            elif kind == 1:
                del body[at : at + size]
            elif kind == 2:
                body[at : at + size] = chance.randbytes(size)
            elif kind == 3:
                body[at:at] = chance.randbytes(size)
            else:
                body[len(header) :] = chance.randbytes(chance.randrange(200))
        return bytes(body)

    def unsealed(self, chance: random.Random) -> bytes:
        """A frame of version 1 without its checksum, for `fuzz.properties.payload` to add the right one: damaged or
        made up.
        """
        body = bytearray(chance.choice(self.frames)[:-4])
        if chance.random() < 0.5:
            body[2:] = chance.randbytes(len(body) - 2)
        body[chance.randrange(len(body))] = chance.randrange(256)
        return bytes(body)

    def sealed(self, chance: random.Random) -> bytes:
        """A file of version 2 in which some bytes are others, under checksums that are right."""
        body = bytearray(PREAMBLE + b"".join(chance.choices(self.sections, k=chance.choice((1, 1, 2)))))
        for _ in range(chance.randrange(1, 4)):
            at = chance.randrange(len(PREAMBLE), len(body))
            body[at] = chance.choice((body[at] ^ 1 << chance.randrange(8), chance.randrange(256)))
        return sealed(bytes(body))

    def request(self, chance: random.Random) -> bytes:
        """A request as `fuzz.request` reads it."""
        device = chance.choice(("cam", "", "../cam", "c" * 65, "*", "cäm"))
        number = chance.choice(("0", "-1", "9007199254740991", "9" * 40, "1e3", ""))
        posts = (FRAMES_PATH, STREAMS_PATH) * 4
        address = chance.choice((*posts, "/v1/faces?limit=-1", "/v1/faces/cam-x.png", "/../etc", "/%00"))
        method = "POST" if address in posts else chance.choice(("GET", "PUT", "HEAD"))
        length = chance.choice(("", f"content-length: {chance.randrange(-9, 10**12)}\n"))
        head = f"{method} {address}\nedge-device: {device}\nedge-sequence: {number}\n{length}\n"
        if address == STREAMS_PATH:
            body = self.sealed(chance) if chance.random() < 0.5 else self.damaged(chance, 2)
        else:
            body = self.damaged(chance, 1)
        return head.encode() + body


class Server:
    """`edge-stscq serve` with an empty store."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-P", "-m", "edge_stscq", "serve", "--model", str(MODEL), "--port", "0"]
        command += ["--requests-per-minute", "1e12", "--bytes-per-minute", "1e15"]
        self._errors = (folder / "stderr.txt").open("w+")
        self._process = subprocess.Popen(
            [*command, "--store", str(folder / "faces.db")], stdout=subprocess.PIPE, stderr=self._errors, text=True
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise EdgeError(f"the server did not start; see {self._errors.name}")
        self._port = int(line.split(" on http://127.0.0.1:")[1].split()[0])
        self._bearer = f"Authorization: Bearer {local_token(f'http://127.0.0.1:{self._port}')}\r\n"

    def resident(self) -> int:
        return resident(self._process.pid)

    def answer(self, path: str, body: bytes, declared: int) -> str:
        """Status of a POST that declares so many bytes and hangs up after its body; empty if there was no answer."""
        names = "Host: 127.0.0.1\r\nEdge-Device: cam\r\nEdge-Sequence: 0\r\n"
        head = f"POST {path} HTTP/1.1\r\n{names}{self._bearer}Content-Length: {declared}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", self._port), timeout=60) as wire:
            wire.sendall(head.encode() + body)
            if declared > len(body):
                wire.shutdown(socket.SHUT_WR)
            try:
                first = wire.recv(64)
            except ConnectionResetError:
                return ""
        return first.split(b" ")[1].decode() if first else ""

    def close(self) -> str:
        """End it; what it wrote to stderr."""
        ended = self._process.poll()
        self._process.terminate()
        self._process.communicate(timeout=60)
        with self._errors:
            self._errors.seek(0)
            said = self._errors.read()
        if ended is not None:
            raise EdgeError(f"the server ended by itself with exit code {ended}: {said[-500:]}")
        return said


class Run:
    """Counters of all kinds, kept in a file.

    Attributes:
        state: for each kind, inputs `done`, those `accepted`, seconds, and the most memory.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.state: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}

    def go_on(self, kind: str, count: int, tried: Callable[[random.Random, int], bool], until: float) -> bool:
        """Try inputs up to number `count`, unless time is over; whether all are done.

        Args:
            tried: tries one input, given random numbers and its number; whether it was accepted.
            until: of the monotonic clock.
        """
        state = self.state.setdefault(kind, {"done": 0, "accepted": 0, "seconds": 0.0})
        while state["done"] < count and time.monotonic() < until:
            began, end = time.monotonic(), min(state["done"] + CHUNK, count)
            chance = random.Random(f"{kind} {state['done']}")
            for number in range(state["done"], end):
                try:
                    state["accepted"] += tried(chance, number)
                except Exception as error:
                    raise RuntimeError(f"{kind} {number} of the {CHUNK} from {state['done']} broke") from error
            state["done"], state["seconds"] = end, round(state["seconds"] + time.monotonic() - began, 2)
            write_file(self._path, json.dumps(self.state).encode())
            print(f"\r{kind} {end:,} of {count:,}", end="", file=sys.stderr, flush=True)
        return state["done"] >= count


class Growth:
    """Growth of a process's memory after its first 500 requests.

    Args:
        memory: bytes that it has now.
    """

    def __init__(self, memory: Callable[[], int]) -> None:
        self._memory, self._requests, self._before = memory, 0, 0

    def note(self, state: dict[str, Any]) -> None:
        """Call after each request."""
        self._requests += 1
        if self._requests == 500:
            self._before = self._memory()
        elif self._requests > 500 and self._requests % 50 == 0:
            state["growth_bytes"] = max(state.get("growth_bytes", 0), self._memory() - self._before)
            assert state["growth_bytes"] <= GROWTH_BOUND, "memory"


def resident(process: int | str) -> int:
    """Bytes of memory that a process has now."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * resource.getpagesize()


def measure(count: int, minutes: float, work: Path) -> dict[str, Any]:
    """All kinds; less of the parser's if time is over before."""
    maker, run, until = Maker(), Run(work / "state.json"), time.monotonic() + 60 * minutes
    app_count, socket_count = round(count * APP_SHARE), round(count * SOCKET_SHARE)

    starts, total = [], 0
    for data in maker.flipped:
        starts.append(total)
        total += 8 * len(data)
    place = {"input": 0}

    def flip(_: random.Random, number: int) -> bool:
        while place["input"] + 1 < len(starts) and starts[place["input"] + 1] <= number:
            place["input"] += 1
        bit, data = number - starts[place["input"]], bytearray(maker.flipped[place["input"]])
        data[bit // 8] ^= 1 << bit % 8
        with contextlib.suppress(EdgeError):
            codec().decode_frame(bytes(data)) if place["input"] < FRAMES else list(read_frames(bytes(data)))
            raise AssertionError("a flipped bit was not noticed")
        return False

    def parse(chance: random.Random, number: int) -> bool:
        version = 1 + number % 2
        read = PROPERTIES["stream"] if version == 1 else reads
        return traced("parser", number, read, maker.damaged(chance, version))

    def parse_sealed(chance: random.Random, number: int) -> bool:
        if number % 4 == 0:
            return traced("sealed", number, PROPERTIES["payload"], maker.unsealed(chance))
        return traced("sealed", number, reads, maker.sealed(chance))

    def traced(kind: str, number: int, read: Callable[[bytes], bool], data: bytes) -> bool:
        if number % 1000 >= 2:
            return read(data)
        tracemalloc.start()
        accepted = read(data)
        state = run.state[kind]
        state["peak_bytes"] = max(state.get("peak_bytes", 0), tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert state["peak_bytes"] <= PARSER_BOUND, "memory"
        return accepted

    def ask(chance: random.Random, number: int) -> bool:
        accepted = PROPERTIES["request"](maker.request(chance))
        ours.note(run.state["app"])
        return accepted

    def post(chance: random.Random, number: int) -> bool:
        path, version = ((FRAMES_PATH, 1), (STREAMS_PATH, 2))[number % 2]
        data = maker.sealed(chance) if number % 8 == 1 else maker.damaged(chance, version)
        cut = number % 10 < 2 and chance.random() < 0.5
        status = server.answer(path, data, len(data) + chance.randrange(1, 99) if cut else len(data))
        state = run.state["socket"]
        theirs.note(state)
        answers = state.setdefault("answers", {})
        answers[status or "none"] = answers.get(status or "none", 0) + 1
        assert status in {"200", "400", "409", "413", ""}, f"status {status}"
        assert status or cut, "no answer"
        return status == "200"

    work.mkdir(parents=True, exist_ok=True)
    whole = run.go_on("flips", min(maker.flips, count), flip, until)
    server, ours = Server(work / "server"), Growth(lambda: resident("self"))
    theirs = Growth(server.resident)
    try:
        whole &= run.go_on("socket", socket_count, post, until)
    finally:
        said = server.close()
    assert not said, said
    whole &= run.go_on("app", app_count, ask, until)
    left = max(0, count - min(maker.flips, count) - app_count - socket_count)
    whole &= run.go_on("sealed", round(left * SEALED_SHARE), parse_sealed, until)
    whole &= run.go_on("parser", left - round(left * SEALED_SHARE), parse, until)
    done = sum(state["done"] for state in run.state.values())
    return {
        "asked": count, "done": done, "accepted": sum(state["accepted"] for state in run.state.values()),
        "complete": whole, "flipped_frames": FRAMES, "flips_of_these_frames": maker.flips,
        "bounds": {"parser_bytes": PARSER_BOUND, "growth_bytes": GROWTH_BOUND}, "kinds": run.state,
    }  # fmt: skip


def main(
    count: Annotated[int, typer.Option(min=1, help="Inputs in all.")] = 10_000_000,
    minutes: Annotated[float, typer.Option(min=0.1, help="Stop after these; the same command goes on.")] = 60,
    work: Annotated[Path, typer.Option(help="Folder of progress and of the server's store.")] = Path("out/malformed"),
) -> None:
    """Write benchmarks/results/malformed.json."""
    typer.echo(write("malformed", measure(count, minutes, work)))


if __name__ == "__main__":
    typer.run(main)
