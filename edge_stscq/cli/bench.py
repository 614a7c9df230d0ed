"""`edge-stscq bench`: this codec beside others, on the user's own pictures and machine."""

from pathlib import Path
from typing import Annotated

import typer

from edge_stscq.cli.command import Command, with_verbosity
from edge_stscq.cli.options import FOLDER, MODEL, Model, folder
from edge_stscq.cli.ui import progress_bar

bench = typer.Typer(help="Measure this codec beside others.", no_args_is_help=True)


@bench.command("rate", cls=Command)
@with_verbosity
def rate(
    crops: Annotated[Path, typer.Option(help="Folder or .tar with the aligned LFW crops that the pairs name.")],
    pairs: Annotated[Path, typer.Option(help="LFW's pairs.txt.")],
    model: Model = MODEL,
    bundle: Annotated[
        Path | None,
        typer.Option(parser=folder, metavar=FOLDER, help="Encode with this bundle instead of the float32 student."),
    ] = None,
    first: Annotated[
        int | None, typer.Option(min=1, help="Only the first N pairs; whole folds, two or more (1200 = two folds).")
    ] = None,
    codec: Annotated[list[str] | None, typer.Option(help="Only this peer; may be repeated. Otherwise all.")] = None,
    recognisers: Annotated[
        Path | None, typer.Option(help="Folder of the recognisers; otherwise EDGE_STSCQ_DATA/recognisers.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for rate.json, rate.png and the points measured so far.")
    ] = Path("out/rate"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Verification accuracy against bytes: our layers, JPEG to VVC at their smallest, and published figures.

    What was measured is kept in the output folder: an interrupted run goes on where it stopped, and another model is
    put beside the same peers without measuring them again.
    """
    from rich.console import Console

    from edge_stscq import api
    from edge_stscq.errors import require

    require("torch", "train")
    require("matplotlib", "bench")
    require("scipy", "bench")
    from edge_stscq.cli.tables import rate_table
    from edge_stscq.codec.model import Codec
    from edge_stscq.evaluation.artifact import coded_by
    from edge_stscq.evaluation.verification.pairs import read_pairs

    listed, own = read_pairs(pairs), Codec.load(model)
    if bundle is not None:
        own = coded_by(own, bundle)
    report = api.rate(
        own, crops, listed if first is None else listed.head(first), peers=codec or (), recognizers=recognisers,
        output=output, steps=progress_bar,
    )  # fmt: skip
    if as_json:
        typer.echo(report.model_dump_json())
        return
    console = Console()
    console.print(rate_table(report))
    console.print(f"{output / 'rate.png'}: look at it", highlight=False)


@bench.command("encode", cls=Command)
@with_verbosity
def encode(
    bundles: Annotated[
        list[Path], typer.Argument(parser=folder, help="Bundles of one model, made by `edge-stscq export`.")
    ],
    model: Model = MODEL,
    faces: Annotated[
        Path | None, typer.Option(help="Folder or .tar of aligned crops; otherwise the first bundle's golden pictures.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="At most this many faces, spread over all of them.")] = 32,
    threads: Annotated[list[int] | None, typer.Option(min=1, help="May be repeated. Otherwise 1 and 2.")] = None,
    rounds: Annotated[int, typer.Option(min=5, help="Times that each encoder runs, with each number of threads.")] = 60,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Time, memory, size and fallbacks of artefacts beside the student and teacher in torch, WebP and AVIF.

    Every bundle is first tried in a fresh process. Exit code 1: one cannot be run or does not answer as at export.
    """
    from rich.console import Console

    from edge_stscq import api
    from edge_stscq.errors import EXIT_CHECK_FAILED, require

    require("torch", "train")
    from edge_stscq.cli.tables import encode_table
    from edge_stscq.codec.model import Codec
    from edge_stscq.data.crops import load_faces

    pictures = None if faces is None else load_faces(faces, count=count)
    report = api.benchmark(
        bundles, Codec.load(model), pictures, threads=threads or (1, 2), rounds=rounds, steps=progress_bar
    )
    if as_json:
        typer.echo(report.model_dump_json())
    else:
        Console().print(encode_table(report))
    if not report.passed:
        raise typer.Exit(EXIT_CHECK_FAILED)
