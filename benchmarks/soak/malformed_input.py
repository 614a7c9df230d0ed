"""Ten million malformed frames and requests: is anything but a refusal raised, and how much memory does it take?

    python -m benchmarks.soak.malformed_input --count 10000000     -> benchmarks/results/malformed.json

Four kinds, in this order:

    flips      every single bit of 1,000 frames turned over, in turn; every one must be refused
    parser     frames and streams cut, mixed, damaged, made up, or damaged under a checksum that is right: refused,
               or read back exactly
    app        requests with such bodies and hostile headers to the whole application, in this process
    socket     such bodies to `edge-stscq serve` in a process of its own, over TCP, some cut off in the middle

What breaks the properties of `fuzz.properties` ends the run with the input. Of the parser, the most bytes that were
allocated at a time are traced on two inputs of every thousand; of the application and the server, how much the process
grew after its first requests. Progress is kept in `--work`: the same command goes on where it was stopped. Damage may
leave a whole stream (one frame of three cut away): such inputs were accepted, and are counted apart.
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
from edge_stscq._files import write_file
from edge_stscq.errors import EdgeError
from edge_stscq.stream import HEADER_BYTES
from fuzz.properties import PROPERTIES, codec
from fuzz.seeds import faces

FRAMES = 1000
APP_SHARE, SOCKET_SHARE = 0.001, 0.0005
CHUNK = 5000
"""Inputs between two notes of progress."""
PARSER_BOUND = 1 << 20
"""Bytes that reading one input of a few frames may allocate at a time."""
GROWTH_BOUND = 32 << 20
"""Bytes that the application or the server may grow by after its first requests."""


class Maker:
    """Malformed inputs, made from 1,000 frames."""

    def __init__(self) -> None:
        self.header = codec().header()
        self.frames = [codec().encode_frame(face) for face in faces(FRAMES, seed=1)]
        self.flips = sum(8 * len(frame) for frame in self.frames)

    def damaged(self, chance: random.Random) -> bytes:
        """A stream of one to three frames that was cut, mixed, damaged or made up."""
        body = bytearray(
            self.header + b"".join(chance.choices(self.frames, k=chance.choice((1, 1, 1, 1, 1, 1, 1, 2, 3))))
        )
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
                body[HEADER_BYTES:] = chance.randbytes(chance.randrange(200))
        return bytes(body)

    def sealed(self, chance: random.Random) -> bytes:
        """A frame without its checksum, for `fuzz.properties.payload` to add the right one: damaged or made up."""
        body = bytearray(chance.choice(self.frames)[:-4])
        if chance.random() < 0.5:
            body[2:] = chance.randbytes(len(body) - 2)
        body[chance.randrange(len(body))] = chance.randrange(256)
        return bytes(body)

    def request(self, chance: random.Random) -> bytes:
        """A request as `fuzz.request` reads it."""
        device = chance.choice(("cam", "", "../cam", "c" * 65, "*", "cäm"))
        number = chance.choice(("0", "-1", "9007199254740991", "9" * 40, "1e3", ""))
        address = chance.choice(("/v1/frames",) * 8 + ("/v1/faces?limit=-1", "/v1/faces/cam-x.png", "/../etc", "/%00"))
        method = "POST" if address == "/v1/frames" else chance.choice(("GET", "PUT", "HEAD"))
        length = chance.choice(("", f"content-length: {chance.randrange(-9, 10**12)}\n"))
        head = f"{method} {address}\nedge-device: {device}\nedge-sequence: {number}\n{length}\n"
        return head.encode() + self.damaged(chance)


class Server:
    """`edge-stscq serve` with an empty store."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-P", "-m", "edge_stscq", "serve", "--model", "models/face64", "--port", "0"]
        self._errors = (folder / "stderr.txt").open("w+")
        self._process = subprocess.Popen(
            [*command, "--store", str(folder / "faces.db")], stdout=subprocess.PIPE, stderr=self._errors, text=True
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise EdgeError(f"the server did not start; see {self._errors.name}")
        self._port = int(line.split(" on http://127.0.0.1:")[1].split()[0])

    def resident(self) -> int:
        return resident(self._process.pid)

    def answer(self, body: bytes, declared: int) -> str:
        """Status of a POST that declares so many bytes and hangs up after its body; empty if there was no answer."""
        names = "Host: 127.0.0.1\r\nEdge-Device: cam\r\nEdge-Sequence: 0\r\n"
        head = f"POST /v1/frames HTTP/1.1\r\n{names}Content-Length: {declared}\r\n\r\n"
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
    for frame in maker.frames:
        starts.append(total)
        total += 8 * len(frame)
    place = {"frame": 0}

    def flip(_: random.Random, number: int) -> bool:
        while place["frame"] + 1 < FRAMES and starts[place["frame"] + 1] <= number:
            place["frame"] += 1
        bit, frame = number - starts[place["frame"]], bytearray(maker.frames[place["frame"]])
        frame[bit // 8] ^= 1 << bit % 8
        with contextlib.suppress(EdgeError):
            codec().decode_frame(bytes(frame))
            raise AssertionError("a flipped bit was not noticed")
        return False

    def parse(chance: random.Random, number: int) -> bool:
        name, data = ("payload", maker.sealed(chance)) if number % 10 == 0 else ("stream", maker.damaged(chance))
        if number % 1000 >= 2:
            return PROPERTIES[name](data)
        tracemalloc.start()
        accepted = PROPERTIES[name](data)
        state = run.state["parser"]
        state["peak_bytes"] = max(state.get("peak_bytes", 0), tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert state["peak_bytes"] <= PARSER_BOUND, "memory"
        return accepted

    def ask(chance: random.Random, number: int) -> bool:
        accepted = PROPERTIES["request"](maker.request(chance))
        ours.note(run.state["app"])
        return accepted

    def post(chance: random.Random, number: int) -> bool:
        data = maker.damaged(chance)
        cut = number % 10 == 0
        status = server.answer(data, len(data) + chance.randrange(1, 99) if cut else len(data))
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
    left = count - min(maker.flips, count) - app_count - socket_count
    whole &= run.go_on("parser", left, parse, until)
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
