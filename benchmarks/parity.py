"""Parity of bundles on real faces, as `edge-stscq parity` reports it.

python -m benchmarks.parity --faces CROPS --count 300 BUNDLE [BUNDLE ...]   -> benchmarks/results/parity.json
"""

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.record import command, write


def main(
    bundles: Annotated[list[Path], typer.Argument(help="Bundles of one model.")],
    faces: Annotated[Path, typer.Option(help="Folder or .tar of aligned crops.")],
    model: Annotated[Path, typer.Option(help="Model folder they were exported from.")] = Path("models/face64"),
    count: Annotated[int, typer.Option(min=1, help="At most this many faces, spread over all of them.")] = 300,
    recognisers: Annotated[
        Path | None, typer.Option(help="Folder of the recognisers; otherwise EDGE_STSCQ_DATA/recognisers.")
    ] = None,
) -> None:
    """Write benchmarks/results/parity.json."""
    common = ["--model", str(model), "--faces", str(faces), "--count", str(count)]
    if recognisers is not None:
        common += ["--recognisers", str(recognisers)]
    typer.echo(write("parity", [command("parity", str(bundle), *common, allowed=1) for bundle in bundles]))


if __name__ == "__main__":
    typer.run(main)
