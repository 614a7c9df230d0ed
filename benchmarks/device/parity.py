"""Parity of bundles on real faces, as `edge-stscq parity` reports it: each bundle, and their matrix.

python -m benchmarks.device.parity --faces CROPS --count 300 BUNDLE [BUNDLE ...]   -> benchmarks/results/parity.json
"""

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.record import write
from benchmarks.released import MODEL
from edge_stscq.bundle import open_bundle
from edge_stscq.cli.ui import progress_bar
from edge_stscq.codec.model import Codec
from edge_stscq.data.crops import load_faces
from edge_stscq.evaluation.parity.bundles import PairedFaces
from edge_stscq.evaluation.parity.report import compare_bundles
from edge_stscq.recognizers import recognizer_folder


def main(
    bundles: Annotated[list[Path], typer.Argument(help="Bundles of one model.")],
    faces: Annotated[Path, typer.Option(help="Folder or .tar of aligned crops.")],
    model: Annotated[Path, typer.Option(help="Model folder they were exported from.")] = MODEL,
    count: Annotated[int, typer.Option(min=1, help="At most this many faces, spread over all of them.")] = 300,
    pairs: Annotated[Path | None, typer.Option(help="LFW's pairs.txt, to verify at every layer.")] = None,
    crops: Annotated[Path | None, typer.Option(help="Folder or .tar with the crops that the pairs name.")] = None,
    first: Annotated[int | None, typer.Option(min=1, help="Only the first N pairs; whole folds.")] = None,
    recognisers: Annotated[
        Path | None, typer.Option(help="Folder of the recognisers; otherwise EDGE_STSCQ_DATA/recognisers.")
    ] = None,
) -> None:
    """Write benchmarks/results/parity.json."""
    report = compare_bundles(
        [open_bundle(bundle) for bundle in bundles], Codec.load(model), load_faces(faces, count=count),
        source=faces.name, paired=None if pairs is None else PairedFaces.load(pairs, crops or faces, first),
        recognizers=recognizer_folder(recognisers), steps=progress_bar,
    )  # fmt: skip
    found = [one.report.model_dump(mode="json") for one in report.bundles]
    matrix = None if report.matrix is None else report.matrix.model_dump(mode="json")
    typer.echo(write("parity", {"bundles": found, "matrix": matrix}))


if __name__ == "__main__":
    typer.run(main)
