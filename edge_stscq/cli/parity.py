"""`edge-stscq parity`: how far a bundle's artefact is from full precision."""

from pathlib import Path
from typing import Annotated

import typer

from edge_stscq.evaluation.thresholds import Thresholds

DEFAULT = Thresholds()
MODEL = Path("models/face64")


def parity(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder made by `edge-stscq export`.")],
    faces: Annotated[
        Path | None, typer.Option(help="Folder or .tar of aligned crops; otherwise the bundle's golden pictures.")
    ] = None,
    model: Annotated[Path, typer.Option(help="Model folder that the bundle was exported from.")] = MODEL,
    count: Annotated[int, typer.Option(min=1, help="At most this many faces, spread over all of them.")] = 200,
    recognisers: Annotated[
        Path | None, typer.Option(help="Folder of the recognisers; otherwise EDGE_STSCQ_DATA/recognisers.")
    ] = None,
    runtime_agreement: Annotated[
        float, typer.Option(min=0, max=1, help="Least share of equal tokens, artefact against its graph.")
    ] = DEFAULT.runtime_agreement,
    token_agreement: Annotated[
        float, typer.Option(min=0, max=1, help="Least share of equal tokens, artefact against full precision.")
    ] = DEFAULT.token_agreement,
    group_agreement: Annotated[
        float, typer.Option(min=0, max=1, help="Least share of equal groups, artefact against full precision.")
    ] = DEFAULT.group_agreement,
    identity: Annotated[
        float, typer.Option(min=-1, max=1, help="Least mean cosine between faces decoded from both codes.")
    ] = DEFAULT.identity,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare an artefact with its int8 graph and with the full-precision student; exit code 1 below a threshold."""
    from rich.console import Console

    from edge_stscq.errors import EXIT_CHECK_FAILED, require

    require("torch", "train")
    from edge_stscq.device import open_bundle
    from edge_stscq.evaluation.bundle_parity import bundle_parity, golden_faces
    from edge_stscq.evaluation.faces import load_faces
    from edge_stscq.evaluation.parity import steps
    from edge_stscq.evaluation.recognisers import recogniser_folder
    from edge_stscq.evaluation.report import parity_table, progress_bar

    opened = open_bundle(bundle)
    loaded = golden_faces(opened) if faces is None else load_faces(faces, count=count)
    source = "the bundle's golden pictures" if faces is None else faces.name
    thresholds = Thresholds(
        runtime_agreement=runtime_agreement,
        token_agreement=token_agreement,
        group_agreement=group_agreement,
        identity=identity,
    )
    with progress_bar("faces", steps(len(loaded), opened.manifest.precision == "int8")) as progress:
        report = bundle_parity(opened, model, loaded, source, recogniser_folder(recognisers), thresholds, progress)
    if as_json:
        typer.echo(report.model_dump_json())
    else:
        Console().print(parity_table(report))
    if not report.passed:
        raise typer.Exit(EXIT_CHECK_FAILED)
