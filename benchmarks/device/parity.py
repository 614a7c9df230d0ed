"""Parity of bundles on real faces, as `edge-stscq parity` reports it: each bundle, and their matrix.

python -m benchmarks.device.parity --faces CROPS --count 300 BUNDLE [BUNDLE ...]   -> benchmarks/results/parity.json
"""

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.record import objects, write


def main(
    bundles: Annotated[list[Path], typer.Argument(help="Bundles of one model.")],
    faces: Annotated[Path, typer.Option(help="Folder or .tar of aligned crops.")],
    model: Annotated[Path, typer.Option(help="Model folder they were exported from.")] = Path("models/face64"),
    count: Annotated[int, typer.Option(min=1, help="At most this many faces, spread over all of them.")] = 300,
    pairs: Annotated[Path | None, typer.Option(help="LFW's pairs.txt, to verify at every layer.")] = None,
    crops: Annotated[Path | None, typer.Option(help="Folder or .tar with the crops that the pairs name.")] = None,
    first: Annotated[int | None, typer.Option(min=1, help="Only the first N pairs; whole folds.")] = None,
    recognisers: Annotated[
        Path | None, typer.Option(help="Folder of the recognisers; otherwise EDGE_STSCQ_DATA/recognisers.")
    ] = None,
) -> None:
    """Write benchmarks/results/parity.json."""
    options = {"--pairs": pairs, "--crops": crops, "--first": first, "--recognisers": recognisers}
    given = [word for name, value in options.items() if value is not None for word in (name, str(value))]
    common = ["--model", str(model), "--faces", str(faces), "--count", str(count), *given]
    found = objects("parity", *map(str, bundles), *common, allowed=1)
    typer.echo(write("parity", {"bundles": found[: len(bundles)], "matrix": next(iter(found[len(bundles) :]), None)}))


if __name__ == "__main__":
    typer.run(main)
