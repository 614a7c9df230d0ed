"""LFW verification at each layer, as `edge-stscq evaluate` reports it.

    EDGE_STSCQ_DATA=DIR python -m benchmarks.codec.verification [--model DIR] [--bundle BUNDLE ...] [--first N]
                                                                              -> benchmarks/results/lfw.json

The data folder holds `lfw/lfw-crops.tar`, `lfw/pairs.txt` and `recognisers/`. Judges the student in full precision and
every bundle, one after the other: side by side their threads wait for each other (4 faces a second in all, 18 alone).
How faces look is measured by `benchmarks.people`, which no judge is needed for.
"""

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.record import write
from benchmarks.released import MODEL
from edge_stscq import api
from edge_stscq.cli.ui import progress_bar
from edge_stscq.codec.model import Codec
from edge_stscq.evaluation.artifact import coded_by, in_full_precision
from edge_stscq.evaluation.verification.pairs import read_pairs


def main(
    data: Annotated[Path, typer.Option(envvar="EDGE_STSCQ_DATA", help="Folder with lfw/ and recognisers/.")],
    model: Annotated[Path, typer.Option(help="Model folder.")] = MODEL,
    bundle: Annotated[list[Path] | None, typer.Option(help="Bundle to judge as well; may be repeated.")] = None,
    first: Annotated[int | None, typer.Option(help="Only the first N pairs; whole folds, two or more.")] = None,
    judge: Annotated[list[str] | None, typer.Option(help="Judge with this one only; may be repeated.")] = None,
) -> None:
    """Write benchmarks/results/lfw.json."""
    listed, codec = read_pairs(data / "lfw" / "pairs.txt"), Codec.load(model)
    pairs, cache = listed if first is None else listed.head(first), Path(".cache")
    reports = [
        api.evaluate(
            judged, data / "lfw" / "lfw-crops.tar", pairs, recognizers=data / "recognisers", names=judge,
            cache=cache, steps=progress_bar,
        ).model_dump(mode="json")
        for judged in (in_full_precision(codec), *(coded_by(codec, path) for path in bundle or []))
    ]  # fmt: skip
    typer.echo(write("lfw", reports))


if __name__ == "__main__":
    typer.run(main)
