"""Cost of sealing: the same faces in a store in the clear and in a sealed one.

    python -m benchmarks.server.sealing [--model DIR]      -> benchmarks/results/sealing.json

In one process and by turns, in SQLite files on the disk of the results' machine. *Ingest* is what the store takes of
checked requests of 64 frames, with its commit; *a face* is found by its name, as a match by example begins; *restart*
reads all faces and fills the index that matches are searched in. The search itself is in memory, the same for both.
Then the store in the clear is sealed, and the keys of the sealed one are rotated.
"""

import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from operator import eq
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.record import write
from benchmarks.released import MODEL
from benchmarks.server.ingest import NOON, draw
from edge_stscq.bundle import model_folder
from edge_stscq.server.decoding.catalog import ModelCatalog
from edge_stscq.server.matching.indexes import FaceIndexes
from edge_stscq.server.sealing.conversion import seal_store
from edge_stscq.server.sealing.face_seal import FaceSeal
from edge_stscq.server.sealing.key_file import KeyFile, rotate
from edge_stscq.server.storage.face_store import FrameBatch
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from edge_stscq.stream.envelope import Clock, Source, WireFrame

FRAMES = 64
"""Of a request."""
FOUND = 500
"""Faces that are asked for by name."""
PAGE = 500
SECRET, NEXT = b"0123456789abcdef0123456789abcdef", b"fedcba9876543210fedcba9876543210"


def main(
    model: Annotated[Path, typer.Option(help="Model folder.")] = MODEL,
    count: Annotated[int, typer.Option("--faces", min=FRAMES, help="In each store.")] = 12_800,
) -> None:
    """Measure both stores, and write the figures."""
    codec = model_folder.load_frame_codec(model)
    payloads = [codec.payload(face) for face in draw(model_folder.load_tables(model), 2048)]
    source = Source(bytes(range(16)), "door-1", codec.model_id, clock=Clock.SYNCHRONIZED)
    frames = [
        WireFrame(source, number, 3, payloads[number % len(payloads)], NOON + 1000 * number) for number in range(count)
    ]
    batches = [FrameBatch(frames[at : at + FRAMES], eq) for at in range(0, count, FRAMES)]
    catalog = ModelCatalog([model])
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        places = {"clear": Path(folder) / "clear.db", "sealed": Path(folder) / "sealed.db"}
        keys = Path(folder) / "keys.db"
        seal_store(places["sealed"], keys, SECRET)
        stores = {
            "clear": SqlFaceStore(places["clear"]),
            "sealed": SqlFaceStore(places["sealed"], FaceSeal(KeyFile(keys, SECRET))),
        }
        with contextlib.ExitStack() as stack:
            for store in stores.values():
                stack.enter_context(contextlib.closing(store))
            times: dict[str, list[float]] = {name: [] for name in stores}
            for batch in batches:
                for name, store in stores.items():
                    times[name].append(_seconds(partial(store.accept_all, [batch])))
            found = {name: _found(store, source, count) for name, store in stores.items()}
            restart = {name: _seconds(partial(_fill, FaceIndexes.in_memory(catalog, count), store)) for name, store in
                       stores.items()}  # fmt: skip
        results: dict[str, Any] = {
            name: {
                "ingest_faces_per_s": FRAMES / statistics.median(times[name]),
                "commit_ms": statistics.median(times[name]) * 1000,
                "face_ms": found[name] * 1000,
                "restart_us_per_face": restart[name] / count * 1e6,
                "bytes_per_face": places[name].stat().st_size / count,
            }
            for name in stores
        }
        results["key_bytes_per_face"] = keys.stat().st_size / count
        results["seal_faces_per_s"] = count / _seconds(
            lambda: seal_store(places["clear"], Path(folder) / "later.db", SECRET)
        )
        results["rotate_keys_per_s"] = count / _seconds(lambda: rotate(keys, SECRET, NEXT))
    typer.echo(write("sealing", {"faces": count, "frames_per_request": FRAMES, **results}))


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _found(store: SqlFaceStore, source: Source, count: int) -> float:
    """Median seconds until a face is found by name."""
    names = [f"{source.stream_id.hex()}-{number}" for number in islice(range(0, count, count // FOUND or 1), FOUND)]
    return statistics.median(_seconds(partial(store.find, name)) for name in names)


def _fill(index: FaceIndexes, store: SqlFaceStore) -> None:
    after = 0
    while rows := store.changes(after, PAGE):
        index.add(rows)
        after = rows[-1].revision


if __name__ == "__main__":
    typer.run(main)
