"""Memory of the server's process: with the catalog alone, as `--engine process` has it, and with the decoders too.

    python -m benchmarks.server.memory [--model DIR]     -> benchmarks/results/memory.json

Each round composes the application in two fresh processes, one after the other: with a backend that decodes elsewhere,
and with one that holds the decoders and has run every batch size once. Read is what is in RAM when that is done. A
server that was started by the command is read besides, together with the process of its decoder.
"""

import multiprocessing
import os
import statistics
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.record import write
from benchmarks.released import MODEL
from benchmarks.server.load import resident_mib, serving


def main(
    model: Annotated[Path, typer.Option(help="Model folder.")] = MODEL,
    rounds: Annotated[int, typer.Option(min=1, help="Fresh processes of each kind.")] = 5,
) -> None:
    """Write benchmarks/results/memory.json."""
    readings: dict[str, list[float]] = {"catalog": [], "catalog_and_decoders": []}
    for _ in range(rounds):
        for kind, found in readings.items():
            found.append(_compose(model, decoders=kind == "catalog_and_decoders"))
    with serving(model) as server:
        alone, both = resident_mib(server.pid), server.resident_mib()
    medians = {kind: statistics.median(found) for kind, found in readings.items()}
    results = {
        "model": model.name, "rounds": rounds,
        "resident_mib": {kind: _spread(found) for kind, found in readings.items()},
        "decoders_mib": round(medians["catalog_and_decoders"] - medians["catalog"], 1),
        "serve": {"server_mib": round(alone, 1), "decoder_process_mib": round(both - alone, 1)},
    }  # fmt: skip
    typer.echo(write("memory", results))


def _spread(found: list[float]) -> dict[str, float]:
    return {"least": round(min(found), 1), "median": round(statistics.median(found), 1), "most": round(max(found), 1)}


def _compose(model: Path, decoders: bool) -> float:
    """MiB of a fresh process that has composed the application."""
    context = multiprocessing.get_context("spawn")
    parent_end, child_end = context.Pipe(duplex=False)
    process = context.Process(target=_read, args=(child_end, model, decoders))
    process.start()
    child_end.close()
    mib: float = parent_end.recv()
    process.join()
    return mib


def _read(pipe: Connection, model: Path, decoders: bool) -> None:
    from edge_stscq.server.app import create_app
    from edge_stscq.server.decoding.local import batching_backend, in_process_backend
    from edge_stscq.server.settings import ServerSettings

    def elsewhere(requests: object) -> Any:
        raise AssertionError("nothing is decoded here")

    with tempfile.TemporaryDirectory() as folder:
        settings = ServerSettings(model=(model,), store=Path(folder) / "faces.db")
        backend = in_process_backend(settings) if decoders else batching_backend(settings, elsewhere)
        app = create_app(settings, backend)
        pipe.send(resident_mib(os.getpid()))
        app.state.store.close()


if __name__ == "__main__":
    typer.run(main)
