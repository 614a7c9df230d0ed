"""`edge-stscq evaluate`: verification accuracy of what survives at each layer."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from edge_stscq.cli.options import FOLDER, MODEL, Model, folder
from edge_stscq.cli.ui import progress_bar


def evaluate(
    crops: Annotated[Path, typer.Option(help="Folder or .tar with the aligned LFW crops that the pairs name.")],
    pairs: Annotated[Path, typer.Option(help="LFW's pairs.txt.")],
    model: Model = MODEL,
    bundle: Annotated[
        Path | None,
        typer.Option(parser=folder, metavar=FOLDER, help="Encode with this bundle instead of the float32 encoder."),
    ] = None,
    encoder: Annotated[Literal["student", "teacher"], typer.Option(help="Which float32 encoder.")] = "student",
    first: Annotated[
        int | None, typer.Option(min=1, help="Only the first N pairs; whole folds, two or more (1200 = two folds).")
    ] = None,
    recognisers: Annotated[
        Path | None, typer.Option(help="Folder of the recognisers; otherwise EDGE_STSCQ_DATA/recognisers.")
    ] = None,
    recogniser: Annotated[list[str] | None, typer.Option(help="Judge with this one only; may be repeated.")] = None,
    layers: Annotated[
        list[int] | None, typer.Option(min=1, max=15, help="Decode this many layers; may be repeated. Otherwise all.")
    ] = None,
    cache: Annotated[Path, typer.Option(help="Folder that keeps the recognisers' embeddings of originals.")] = Path(
        ".cache"
    ),
    device: Annotated[Literal["cpu", "cuda"], typer.Option("--accelerator", help="Where torch computes.")] = "cpu",
    appearance: Annotated[
        bool, typer.Option(help="Tell how decoded faces look, too. Takes as long again, and the packages of [bench].")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Verify LFW pairs in the compressed domain and after decoding, layer by layer."""
    from rich.console import Console

    from edge_stscq import api
    from edge_stscq.errors import require

    require("torch", "train")
    from edge_stscq.cli.tables import verification_table
    from edge_stscq.codec.model import Codec
    from edge_stscq.evaluation.artifact import coded_by
    from edge_stscq.evaluation.verification.pairs import read_pairs

    listed = read_pairs(pairs)
    codec = Codec.load(model, encoder, device)
    if bundle is not None:
        codec = coded_by(codec, bundle)
    report = api.evaluate(
        codec, crops, listed if first is None else listed.head(first), recognizers=recognisers, names=recogniser,
        layers=layers or (), cache=cache, appearance=appearance, device=device, steps=progress_bar,
    )  # fmt: skip
    if as_json:
        typer.echo(report.model_dump_json())
        return
    console = Console()
    console.print(verification_table(report))
    if not report.originals:
        console.print("no recognisers given (--recognisers): decoded faces were not verified")
