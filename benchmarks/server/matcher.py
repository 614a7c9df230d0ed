"""Speed and memory of the matcher's process: one face against 100,000 protected templates, over HTTP, on one core.

    python -m benchmarks.server.matcher --work FOLDER --prepare      makes the templates and their keys, once
    python -m benchmarks.server.matcher --work FOLDER                -> benchmarks/results/matcher.json

Templates are of random embeddings, each under a key of its own, and lie in a server's store. A matcher follows that
server; when it has all, faces are matched with it one after the other. Its processor time is read beside the time
that the client waits, since the client shares the machine.
"""

import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx2
import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.record import write
from benchmarks.released import MODEL
from benchmarks.server.load import Server, resident_mib, serving
from edge_stscq._local_servers import local_token
from edge_stscq.bundle.model_folder import load_frame_codec
from edge_stscq.config.codec import EMBEDDING
from edge_stscq.privacy import KeyStore, read_secret, scheme_named, write_new_secret
from edge_stscq.server.storage.face_store import FrameBatch
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from edge_stscq.stream.envelope import Kind, Source, WireFrame, new_stream_key, stream_id

SCHEME = "rotated"
PAGE = 1000
LEAST = 0.7
"""Score of an embedding against its own template; strangers stay below half."""
SECONDS = 600.0
"""In which a matcher must have all templates."""


def main(
    work: Annotated[Path, typer.Option(help="Folder of the store, the keys and the secret.")],
    model: Annotated[Path, typer.Option(help="Model folder.")] = MODEL,
    records: Annotated[int, typer.Option(min=1, help="Templates.")] = 100_000,
    queries: Annotated[int, typer.Option(min=1, help="Faces that are matched, of each kind.")] = 200,
    prepare: Annotated[bool, typer.Option("--prepare", help="Only make the templates and their keys.")] = False,
) -> None:
    """Write benchmarks/results/matcher.json."""
    if prepare:
        _prepare(work, load_frame_codec(model).model_id, records)
        return
    embeddings, asked = _embeddings(records), range(0, records, max(records // queries, 1))[:queries]
    body = {"model_id": load_frame_codec(model).model_id.hex()}
    with serving(model, "--store", f"{work}/faces.db") as server:
        began = time.monotonic()
        with _matching(server, work) as matcher:
            results = _measured(matcher, began, embeddings, asked, body)
    typer.echo(write("matcher", {"scheme": SCHEME, "records": records, "matcher_threads": 1, **results}))


def _measured(
    matcher: Server, began: float, embeddings: NDArray[np.float32], asked: range, body: dict[str, Any]
) -> dict[str, Any]:
    """Figures of a matcher whose start was `began`."""
    _wait_until_complete(matcher)
    followed = time.monotonic() - began
    bodies = [body | {"embedding": embeddings[number].tolist()} for number in asked]
    named = [one | {"record": f"record {number}"} for number, one in zip(asked, bodies, strict=True)]
    return {
        "queries": len(bodies), "ready_seconds": round(followed, 1), "search": _ask(matcher, bodies),
        "one_to_one": _ask(matcher, named), "resident_mib": round(resident_mib(matcher.pid), 1),
    }  # fmt: skip


def _embeddings(count: int) -> NDArray[np.float32]:
    drawn = np.random.default_rng(0).standard_normal((count, EMBEDDING)).astype(np.float32)
    unit: NDArray[np.float32] = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return unit


def _prepare(work: Path, model_id: bytes, records: int) -> None:
    """Fill a store with templates, and a key store with their keys."""
    work.mkdir(parents=True, exist_ok=True)
    write_new_secret(work / "secret")
    keys = KeyStore.create(work / "matcher.keys", read_secret(f"file:{work / 'secret'}"))
    issued, scheme = keys.issue_all(f"record {number}" for number in range(records)), scheme_named(SCHEME)
    source = Source(stream_id(new_stream_key()), "door-1", model_id, kind=Kind.PROTECTED)
    pairs = list(zip(_embeddings(records), issued.values(), strict=True))
    with closing(SqlFaceStore(work / "faces.db")) as store:
        for begin in range(0, records, PAGE):
            frames = [
                WireFrame(source, number, 1, scheme.enroll(*pair))
                for number, pair in enumerate(pairs[begin : begin + PAGE], begin)
            ]
            store.accept_all([FrameBatch(frames, lambda old, new: False)])


@contextmanager
def _matching(server: Server, work: Path) -> Iterator[Server]:
    """`edge-stscq matcher serve` on a free port, with one thread for arithmetic."""
    words = ["matcher", "serve", "--server", f"http://127.0.0.1:{server.port}", "--port", "0"]
    words += ["--secret", f"file:{work / 'secret'}", "--keys", str(work / "matcher.keys")]
    one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "edge_stscq", *words], stdout=subprocess.PIPE, text=True, env={**os.environ, **one}
    )
    try:
        assert process.stdout is not None
        found = re.search(r" on http://127\.0\.0\.1:(\d+)", process.stdout.readline())
        if found is None:
            raise typer.Exit(process.wait())
        yield Server(int(found[1]), process.pid)
    finally:
        process.terminate()
        process.wait()


def _wait_until_complete(matcher: Server) -> None:
    ends = time.monotonic() + SECONDS
    while httpx2.get(f"http://127.0.0.1:{matcher.port}/ready").status_code != 200:
        if time.monotonic() > ends:
            raise typer.Exit(1)
        time.sleep(0.5)


def _ask(matcher: Server, bodies: list[dict[str, Any]]) -> dict[str, float]:
    """Milliseconds of requests one after the other, and of the matcher's processor for each."""
    url = f"http://127.0.0.1:{matcher.port}"
    waits = []
    with httpx2.Client(headers={"Authorization": f"Bearer {local_token(url)}"}, timeout=60) as http:
        http.post(f"{url}/v1/match", json=bodies[0]).raise_for_status()
        before = matcher.cpu_seconds()
        for at, body in enumerate(bodies):
            began = time.perf_counter()
            answer = http.post(f"{url}/v1/match", json=body)
            waits.append(1000 * (time.perf_counter() - began))
            best = answer.raise_for_status().json()["hits"][0]
            if best["score"] < LEAST:
                raise AssertionError(f"face {at} is not found: {best}")
    processor = 1000 * (matcher.cpu_seconds() - before) / len(bodies)
    return {
        "median_ms": round(statistics.median(waits), 2), "p95_ms": round(float(np.percentile(waits, 95)), 2),
        "most_ms": round(max(waits), 2), "processor_ms": round(processor, 2),
    }  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
