"""Encode time of each artefact, as `edge-stscq bench encode` reports it, and decode time per face.

    python -m benchmarks.device.encode [--model DIR] BUNDLE [BUNDLE ...]     -> benchmarks/results/encode.json

Decoding runs in torch on one thread, batch sizes interleaved in the same way.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.record import write
from benchmarks.released import MODEL
from edge_stscq import api
from edge_stscq.cli.ui import progress_bar
from edge_stscq.codec import store
from edge_stscq.codec.decoder import Decoder
from edge_stscq.codec.model import Codec
from edge_stscq.data.crops import load_faces
from edge_stscq.evaluation.speed.benchmark import interleaved

BATCHES = (1, 2, 4, 8, 16, 32)
FACES = 32
"""At most so many crops are coded in turn."""


def main(
    bundles: Annotated[list[Path], typer.Argument(help="Bundles of one model.")],
    model: Annotated[Path, typer.Option(help="Model folder they were exported from.")] = MODEL,
    faces: Annotated[Path | None, typer.Option(help="Folder or .tar of aligned crops.")] = None,
    rounds: Annotated[int, typer.Option(min=5, help="Times that each encoder runs.")] = 100,
) -> None:
    """Write benchmarks/results/encode.json."""
    pictures = None if faces is None else load_faces(faces, count=FACES)
    report = api.benchmark(bundles, Codec.load(model), pictures, rounds=rounds, steps=progress_bar)
    torch.set_num_threads(1)
    decode = _decode_times(store.load_decoder(model), max(5, rounds // 10))
    typer.echo(write("encode", report.model_dump(mode="json") | {"decode": decode}))


def _decode_times(decoder: Decoder, rounds: int) -> list[dict[str, Any]]:
    """Milliseconds per face of all layers, by batch size."""
    config = decoder.config

    def decode(size: int) -> Callable[[], object]:
        group = torch.randint(config.groups, (size,))
        tokens = torch.randint(config.entries, (size, config.tokens))
        return lambda: decoder.decode(group, tokens)

    with progress_bar("rounds of decoding", rounds) as progress:
        taken = interleaved({str(size): decode(size) for size in BATCHES}, rounds, progress)
    return [
        {"batch": size}
        | {f"{name}_per_face": round(value / size, 3) for name, value in taken[str(size)].model_dump().items()}
        for size in BATCHES
    ]


if __name__ == "__main__":
    typer.run(main)
