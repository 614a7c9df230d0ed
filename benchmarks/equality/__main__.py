"""Command line of the equality proof; the package tells what it is."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.docs.tables import TABLES
from benchmarks.equality import crops as shards_of
from benchmarks.equality.drive import run as run_place
from benchmarks.equality.places import Setting, find
from benchmarks.equality.places.base import ROOT
from benchmarks.equality.results import collate, differing
from benchmarks.record import RESULTS, write
from edge_stscq.errors import EXIT_BAD_INPUT, EXIT_CHECK_FAILED, EdgeError

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
Work = Annotated[Path, typer.Option(help="Folder of crops and answers.")]
WORK = Path("out/equality")


@app.command()
def crops(
    count: Annotated[int, typer.Option(min=1, help="Crops in all; a third real, while they last.")] = 100_000,
    data: Annotated[
        Path | None, typer.Option(help="Folder with faces/*.tar and lfw/*.tar; otherwise EDGE_STSCQ_DATA, or none.")
    ] = None,
    work: Work = WORK,
) -> None:
    """Write the shards that every place reads: 49 KB a crop."""
    data = data or (Path(os.environ["EDGE_STSCQ_DATA"]) if "EDGE_STSCQ_DATA" in os.environ else None)
    archives = [] if data is None else [*data.glob("faces/*.tar"), *data.glob("lfw/*.tar")]
    if data is not None and not archives:
        raise EdgeError(f"{data} has no faces/*.tar and no lfw/*.tar; give another --data, or none to draw all")
    description = shards_of.make(work / "crops", count, archives)
    typer.echo(json.dumps({key: value for key, value in description.items() if key != "shards"}, indent=1))


@app.command()
def run(
    place: Annotated[
        list[str], typer.Option(help="A place, a pattern such as 'onnx-cortex-*', or `here`; may be repeated.")
    ],
    bundles: Annotated[Path, typer.Option(help="Folder of the int8 bundles that `edge-stscq export` wrote.")],
    model: Annotated[
        Path | None, typer.Option(help="Model folder that they were exported from; the place numpy runs it.")
    ] = None,
    count: Annotated[int | None, typer.Option(min=1, help="The first crops only; whole shards.")] = None,
    minutes: Annotated[float, typer.Option(help="Begin no shard after these; the same command goes on.")] = 1e6,
    work: Work = WORK,
) -> None:
    """Answer the crops at places and write benchmarks/results/equality.json, with all that was answered before.

    Exit code 1: a place that must be equal is not.
    """
    setting, until = Setting(bundles, model, ROOT / ".cache"), time.monotonic() + 60 * minutes
    chosen = shards_of.shards(work / "crops", count)
    for each in find(place, exact=model is not None and setting.bundle("onnx").manifest.exact):
        whole = run_place(each, setting, chosen, work, until=until, progress=_say)
        _say(f"{each.name}: {'all answered' if whole else 'time is over; the same command goes on'}")
    results = collate(setting, shards_of.shards(work / "crops"), work)
    typer.echo(write("equality", {"crops": shards_of.describe(work / "crops"), **results}))
    report()


@app.command()
def report() -> None:
    """Print the table of benchmarks/results/equality.json.

    Exit code 1: a place that must be equal is not.
    """
    path = RESULTS / "equality.json"
    if not path.exists():
        raise EdgeError("nothing was measured yet; run: python -m benchmarks.equality run --help")
    typer.echo(TABLES["equality"](), nl=False)
    if wrong := differing(json.loads(path.read_bytes())["results"]):
        typer.echo(f"not equal: {', '.join(wrong)}", err=True)
        raise typer.Exit(EXIT_CHECK_FAILED)


def _say(text: str) -> None:
    typer.echo(text, err=True)


if __name__ == "__main__":
    try:
        app()
    except EdgeError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(EXIT_BAD_INPUT)
