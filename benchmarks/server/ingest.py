"""Ingest beside a server that stores each body as an opaque blob: the cost of knowing what is stored.

    python -m benchmarks.server.ingest [--model DIR]      -> benchmarks/results/ingest.json

Both are real servers in processes of their own, share their processor cores with the load, and take turns in one run:
`edge-stscq serve`, with a token, the audit log and every check, and `benchmarks.server.blob_server`, same framework and
durability, one row a request. In SQLite and, where it is installed, PostgreSQL. Faces are drawn from the model's
frequency tables, and requests are of wire version 2, each a stream of its own, made before the clock starts.

`shares` is what a stored frame costs in SQLite by the processor's time, in one thread and without HTTP: its bytes read
and checked, its payload decoded, its row stored and committed, and, behind the answer, its face indexed;
`index_read_back` is what that costs of a face that another server has stored, whose row is read first.

`numbering` is what the order of revisions costs in PostgreSQL: writers who share one database, and so wait for each
other, against as many who have a database each on the same server.
"""

import asyncio
import contextlib
import math
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle, islice
from operator import eq
from pathlib import Path
from typing import Annotated, Any
from unittest.mock import patch
from urllib.parse import urlsplit

import numpy as np
import typer

from benchmarks.postgres import Cluster, binaries, cluster
from benchmarks.record import write
from benchmarks.released import MODEL
from edge_stscq.bundle import model_folder
from edge_stscq.protocol import STREAMS_PATH
from edge_stscq.server.auth.scope import Scope
from edge_stscq.server.auth.tokens import TokenStore
from edge_stscq.server.decoding.catalog import ModelCatalog
from edge_stscq.server.ingest import Ingest, StreamUpload
from edge_stscq.server.matching.indexes import FaceIndexes
from edge_stscq.server.storage.change_feed import PAGE
from edge_stscq.server.storage.face_store import FrameBatch, StoredFace
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from edge_stscq.stream import CodedFace, FrameCodec, Tables, model_id
from edge_stscq.stream.envelope import Clock, Source, WireFrame, device_stream_id, new_stream_key, stream_id
from edge_stscq.stream.wire import write_stream

SIZES = (1, 16, 256)
"""Frames in a body."""
FRAMES = 16384
"""Different payloads, sent in turn: more than the server remembers."""
FASTEST = {1: 2_000, 16: 20_000, 256: 40_000}
"""Frames a second for which bodies are made ahead, by frames in a body."""
NOON = 1_790_000_000_000
"""Milliseconds since 1970 UTC at which the first face of each stream was captured."""
CONNECTIONS = 8
SHARES_FRAMES = 8192
"""Frames of which shares are measured: as many as a codec remembers."""
SERVERS = ("edge-stscq", "opaque")


@dataclass
class Target:
    """A running server and what has been sent to it."""

    address: str
    headers: str


def main(
    model: Annotated[Path, typer.Option(help="Model folder.")] = MODEL,
    seconds: Annotated[float, typer.Option(min=0.1, help="Load of one server in one round.")] = 3,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each server.")] = 5,
) -> None:
    """Write benchmarks/results/ingest.json."""
    tables = model_folder.load_tables(model)
    codec = FrameCodec(tables, model_id(model_folder.full_books(model), tables))
    payloads = [codec.payload(face) for face in draw(tables, FRAMES)]
    results: dict[str, Any] = {"connections": CONNECTIONS, "seconds": seconds, "rounds": rounds, "stores": {}}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        places = {"SQLite": tuple(str(Path(folder) / f"{name}.db") for name in SERVERS)}
        found = binaries()
        if found is not None:
            postgres = stack.enter_context(cluster(found, fsync=True))
            places["PostgreSQL"] = tuple(postgres.new_database(name) for name in SERVERS)
        for name, (ours, opaque) in places.items():
            with serve(model, ours, Path(folder)) as first, serve_opaque(opaque) as second:
                targets = dict(zip(SERVERS, (first, second), strict=True))
                results["stores"][name] = {
                    str(size): compare(targets, codec.model_id, payloads, size, seconds, rounds) for size in SIZES
                }
                typer.echo(f"{name}: {results['stores'][name]}", err=True)
        results["shares"] = {str(size): shares(model, codec.model_id, payloads, size, Path(folder)) for size in SIZES}
        if found is not None:
            results["numbering"] = numbering(postgres, payloads[0], codec, seconds, rounds)
    typer.echo(write("ingest", results))


def draw(tables: Tables, count: int) -> Iterator[CodedFace]:
    """Faces of all layers, as likely as the tables think they are."""
    random = np.random.default_rng(0)
    total = tables.group_frequencies.sum()
    for _ in range(count):
        group = int(random.choice(len(tables.group_frequencies), p=tables.group_frequencies / total))
        tokens = [random.choice(len(row), p=row / total) for row in tables.frequencies[group]]
        yield CodedFace(group, np.array(tokens, np.uint16), 3)


@contextlib.contextmanager
def serve(model: Path, place: str, folder: Path) -> Iterator[Target]:
    """`edge-stscq serve`, with a token that every request shows."""
    tokens = folder / "tokens.db"
    with contextlib.closing(TokenStore(tokens, create=True)) as made:
        secret = made.create("cam", [Scope.SEND])[1]
    command = (
        "edge_stscq", "serve", "--port", "0", "--model", model, "--store", place, "--tokens", tokens,
        "--audit", folder / "audit.jsonl", "--requests-per-minute", "1e12", "--bytes-per-minute", "1e15",
    )  # fmt: skip
    with running(*command) as address:
        yield Target(address, f"Authorization: Bearer {secret}\r\n")


@contextlib.contextmanager
def serve_opaque(place: str) -> Iterator[Target]:
    with running("benchmarks.server.blob_server", place) as address:
        yield Target(address, "")


@contextlib.contextmanager
def running(*command: object) -> Iterator[str]:
    """A Python module in a process of its own; the address it prints."""
    process = subprocess.Popen([sys.executable, "-m", *map(str, command)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        if found is None:
            raise typer.Exit(process.wait())
        yield found[0]
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def upload(model: bytes, payloads: Sequence[bytes]) -> bytes:
    """Body of a request: faces of a stream that no other request has."""
    key = new_stream_key()
    source = Source(stream_id(key), "cam", model, clock=Clock.SYNCHRONIZED)
    frames = [
        WireFrame(source, number, 3, payload, NOON + 1000 * number, quality=80)
        for number, payload in enumerate(payloads)
    ]
    return write_stream(frames, key)


def uploads(model: bytes, payloads: Sequence[bytes], size: int, seconds: float) -> list[bytes]:
    """Bodies for some seconds."""
    turn = cycle(payloads)
    return [upload(model, list(islice(turn, size))) for _ in range(math.ceil(FASTEST[size] * seconds / size))]


def compare(
    targets: dict[str, Target], model: bytes, payloads: Sequence[bytes], size: int, seconds: float, rounds: int
) -> dict[str, Any]:
    """Rates of both servers for bodies of one size, and their ratio: median over rounds and its range."""
    rates: dict[str, list[float]] = {name: [] for name in targets}
    for round_ in range(rounds + 1):
        lasts = seconds if round_ else 0.5
        bodies = uploads(model, payloads, size, lasts)
        for name, target in targets.items():
            ours = name == SERVERS[0]
            rate = asyncio.run(load(target, iter(bodies) if ours else cycle(bodies), size if ours else 1, lasts))
            if round_:  # the first warms up
                rates[name].append(rate)
    ratios = [ours / opaque for ours, opaque in zip(*rates.values(), strict=True)]
    return {
        "body_bytes": round(statistics.mean(map(len, bodies)), 1),
        "requests_per_second": {name: round(statistics.median(found), 1) for name, found in rates.items()},
        "frames_per_second": round(size * statistics.median(rates[SERVERS[0]]), 1),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
    }


async def load(target: Target, bodies: Iterator[bytes], stored: int, seconds: float) -> float:
    """Acknowledged requests a second, from connections that each send the next when they have their answer."""
    address, acknowledged, begin = urlsplit(target.address), 0, time.perf_counter()

    async def one() -> None:
        nonlocal acknowledged
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        while time.perf_counter() - begin < seconds:
            body = next(bodies)
            head = (
                f"POST {STREAMS_PATH} HTTP/1.1\r\nHost: {address.netloc}\r\n{target.headers}"
                f"Content-Length: {len(body)}\r\n\r\n"
            )
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            while answer.startswith(b"HTTP/1.1 503"):  # of connections there are too many; as a camera, try again
                writer.close()
                await asyncio.sleep(1)
                reader, writer = await asyncio.open_connection(address.hostname, address.port)
                writer.write(head.encode() + body)
                answer = await reader.readuntil(b"\r\n\r\n")
            length = int(re.search(rb"content-length: (\d+)", answer)[1])  # type: ignore[index]
            said = await reader.readexactly(length)
            if not answer.startswith(b"HTTP/1.1 200") or f'"stored":{stored},'.encode() not in said:
                raise RuntimeError(f"not acknowledged: {answer!r} {said!r}")
            acknowledged += 1
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))
    return acknowledged / (time.perf_counter() - begin)


def shares(model: Path, name: bytes, payloads: Sequence[bytes], size: int, folder: Path) -> dict[str, Any]:
    """Microseconds of the processor for a frame, by stage; a commit takes a request of each connection."""
    stages = "decode", "store_and_commit", "index", "index_read_back"
    catalog, spent = ModelCatalog([model]), dict.fromkeys(stages, 0.0)
    (entry,) = catalog
    bodies = [StreamUpload("cam", body) for body in uploads(name, payloads, size, SHARES_FRAMES / FASTEST[size])]

    def timed(stage: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any) -> Any:
            begin = time.process_time()
            try:
                return call(*arguments)
            finally:
                spent[stage] += time.process_time() - begin

        return wrapped

    with contextlib.closing(SqlFaceStore(folder / f"shares{size}.db")) as store:
        ingest, stored = Ingest(catalog, store, size), list[Sequence[StoredFace]]()
        store.on_stored = lambda last, faces: stored.append(faces)
        decode, accept_all = timed("decode", entry.codec.faces), timed("store_and_commit", store.accept_all)
        with patch.object(entry.codec, "faces", decode), patch.object(store, "accept_all", accept_all):
            begin = time.process_time()
            for some in range(0, len(bodies), CONNECTIONS):
                for answer in ingest.accept(bodies[some : some + CONNECTIONS]):
                    if isinstance(answer, Exception):
                        raise answer
            whole = time.process_time() - begin
        add = timed("index", FaceIndexes.in_memory(catalog, SHARES_FRAMES).add)
        for faces in stored:
            add(faces)
        index, after = FaceIndexes.in_memory(catalog, SHARES_FRAMES), 0
        follow = timed("index_read_back", lambda: _indexed(store, index, after))
        while (reached := follow()) is not None:
            after = reached
    frames = size * len(bodies)
    spent["read_and_check"] = whole - spent["decode"] - spent["store_and_commit"]
    return {stage: round(seconds / frames * 1e6, 1) for stage, seconds in sorted(spent.items())}


def _indexed(store: SqlFaceStore, index: FaceIndexes, after: int) -> int | None:
    """Index a page of changes; the revision of its last, None at the end."""
    found = store.changes(after, PAGE)
    index.add(found)
    return found[-1].revision if found else None


def numbering(postgres: Cluster, frame: bytes, codec: FrameCodec, seconds: float, rounds: int) -> dict[str, Any]:
    """Transactions of one frame each a second, with one database for all writers and with one for each."""
    shared = postgres.new_database("shared")
    apart = [postgres.new_database(f"apart{writer}") for writer in range(CONNECTIONS)]
    places = {
        "one": [SqlFaceStore(shared)],
        "shared": [SqlFaceStore(shared) for _ in range(CONNECTIONS)],
        "apart": [*map(SqlFaceStore, apart)],
    }
    source = Source(device_stream_id("cam"), "cam", codec.model_id)
    numbers, rates = iter(range(1 << 50)), {name: list[float]() for name in places}

    def send(store: SqlFaceStore) -> int:
        done, begin = 0, time.perf_counter()
        while time.perf_counter() - begin < seconds:
            (answer,) = store.accept_all([FrameBatch([WireFrame(source, next(numbers), 3, frame)], eq, False)])
            if isinstance(answer, Exception):
                raise answer
            done += 1
        return done

    with ThreadPoolExecutor(CONNECTIONS) as threads:
        for _ in range(rounds):
            for name, stores in places.items():
                rates[name].append(sum(threads.map(send, stores)) / seconds)
    for store in {*places["one"], *places["shared"], *places["apart"]}:
        store.close()
    return {
        "writers": CONNECTIONS,
        "transactions_per_second": {name: round(statistics.median(found), 1) for name, found in rates.items()},
        "ratio": round(statistics.median(a / b for a, b in zip(rates["shared"], rates["apart"], strict=True)), 3),
    }


if __name__ == "__main__":
    typer.run(main)
