"""Accuracy against bytes beside other codecs, as `edge-stscq bench rate` reports it.

    EDGE_STSCQ_DATA=DIR python -m benchmarks.codec.rate [--model DIR] [--bundle BUNDLE] [--first 1200]
                                                        -> benchmarks/results/rate.json and benchmarks/results/rate/

The folder keeps the points of the peers, which do not depend on the model, and the picture.
"""

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.judge import Judge
from benchmarks.record import RESULTS, write
from benchmarks.released import MODEL
from edge_stscq import api
from edge_stscq.cli.ui import progress_bar
from edge_stscq.codec.model import Codec
from edge_stscq.evaluation.artifact import coded_by
from edge_stscq.evaluation.verification.pairs import read_pairs
from edge_stscq.recognizers import HELD_OUT


def main(
    data: Annotated[Path, typer.Option(envvar="EDGE_STSCQ_DATA", help="Folder with lfw/ and recognisers/.")],
    model: Annotated[Path, typer.Option(help="Model folder.")] = MODEL,
    bundle: Annotated[Path | None, typer.Option(help="Encode with this bundle instead of the float32 student.")] = None,
    first: Annotated[int | None, typer.Option(help="Only the first N pairs; whole folds, two or more.")] = None,
    peer: Annotated[list[str] | None, typer.Option(help="Only this peer; may be repeated. Otherwise all.")] = None,
    judge: Judge = HELD_OUT,
) -> None:
    """Write benchmarks/results/rate.json."""
    listed, codec = read_pairs(data / "lfw" / "pairs.txt"), Codec.load(model)
    report = api.rate(
        codec if bundle is None else coded_by(codec, bundle), data / "lfw" / "lfw-crops.tar",
        listed if first is None else listed.head(first), peers=peer or (), recognizers=data / "recognisers",
        judge=judge, output=RESULTS / "rate", steps=progress_bar,
    )  # fmt: skip
    typer.echo(write("rate", report.model_dump(mode="json")))


if __name__ == "__main__":
    typer.run(main)
