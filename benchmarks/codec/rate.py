"""Accuracy against bytes beside other codecs, as `edge-stscq bench rate` reports it.

    EDGE_STSCQ_DATA=DIR python -m benchmarks.codec.rate --model models/face64 [--bundle BUNDLE] [--first 1200]
                                                        -> benchmarks/results/rate.json and benchmarks/results/rate/

The folder keeps the points of the peers, which do not depend on the model, and the picture.
"""

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.record import RESULTS, command, write


def main(
    data: Annotated[Path, typer.Option(envvar="EDGE_STSCQ_DATA", help="Folder with lfw/ and recognisers/.")],
    model: Annotated[Path, typer.Option(help="Model folder.")] = Path("models/face64"),
    bundle: Annotated[Path | None, typer.Option(help="Encode with this bundle instead of the float32 student.")] = None,
    first: Annotated[int | None, typer.Option(help="Only the first N pairs; whole folds, two or more.")] = None,
) -> None:
    """Write benchmarks/results/rate.json."""
    words = ["--model", str(model), "--crops", str(data / "lfw" / "lfw-crops.tar"), "-o", str(RESULTS / "rate")]
    words += ["--pairs", str(data / "lfw" / "pairs.txt"), "--recognisers", str(data / "recognisers")]
    words += [] if bundle is None else ["--bundle", str(bundle)]
    words += [] if first is None else ["--first", str(first)]
    typer.echo(write("rate", command("bench", "rate", *words)))


if __name__ == "__main__":
    typer.run(main)
