"""LFW verification at each layer, as `edge-stscq evaluate` reports it.

    EDGE_STSCQ_DATA=DIR python -m benchmarks.codec.verification --model models/face64 [--bundle BUNDLE ...] [--first N]
                                                                              -> benchmarks/results/lfw.json

The data folder holds `lfw/lfw-crops.tar`, `lfw/pairs.txt` and `recognisers/`. Runs the student in float32 and every
bundle, each by the command itself, one after the other: side by side their threads wait for each other (4 faces a
second in all, 18 alone).
"""

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.record import command, write


def main(
    data: Annotated[Path, typer.Option(envvar="EDGE_STSCQ_DATA", help="Folder with lfw/ and recognisers/.")],
    model: Annotated[Path, typer.Option(help="Model folder.")] = Path("models/face64"),
    bundle: Annotated[list[Path] | None, typer.Option(help="Bundle to judge as well; may be repeated.")] = None,
    first: Annotated[int | None, typer.Option(help="Only the first N pairs; whole folds, two or more.")] = None,
) -> None:
    """Write benchmarks/results/lfw.json."""
    common = ["--model", str(model), "--crops", str(data / "lfw" / "lfw-crops.tar")]
    common += ["--pairs", str(data / "lfw" / "pairs.txt"), "--recognisers", str(data / "recognisers")]
    if first is not None:
        common += ["--first", str(first)]
    subjects = [[], *(["--bundle", str(path)] for path in bundle or [])]
    typer.echo(write("lfw", [command("evaluate", *common, *subject) for subject in subjects]))


if __name__ == "__main__":
    typer.run(main)
