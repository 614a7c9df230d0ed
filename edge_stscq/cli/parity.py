"""`edge-stscq parity`: how far the artefacts of bundles are from full precision."""

from pathlib import Path
from typing import Annotated

import typer

from edge_stscq.evaluation.thresholds import Thresholds

DEFAULT = Thresholds()
MODEL = Path("models/face64")


def parity(
    bundles: Annotated[list[Path], typer.Argument(help="Bundle folders made by `edge-stscq export` from one model.")],
    faces: Annotated[
        Path | None, typer.Option(help="Folder or .tar of aligned crops; otherwise each bundle's golden pictures.")
    ] = None,
    model: Annotated[Path, typer.Option(help="Model folder that the bundles were exported from.")] = MODEL,
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
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for each bundle, one a line.")] = False,
) -> None:
    """Compare artefacts with their int8 graph and with the full-precision student; exit code 1 below a threshold."""
    from rich.console import Console

    from edge_stscq.errors import EXIT_CHECK_FAILED, require

    require("torch", "train")
    from edge_stscq.device import open_bundle
    from edge_stscq.evaluation.bundle_parity import FullPrecision, golden_faces
    from edge_stscq.evaluation.faces import load_faces
    from edge_stscq.evaluation.parity import steps
    from edge_stscq.evaluation.recognisers import recogniser_folder
    from edge_stscq.evaluation.report import parity_table, progress_bar

    opened = [open_bundle(bundle) for bundle in bundles]
    crops = None if faces is None else load_faces(faces, count=count)
    thresholds = Thresholds(
        runtime_agreement=runtime_agreement,
        token_agreement=token_agreement,
        group_agreement=group_agreement,
        identity=identity,
    )
    full, passed = FullPrecision(model, recogniser_folder(recognisers)), True
    for bundle in opened:
        shown = golden_faces(bundle) if crops is None else crops
        source = "the bundle's golden pictures" if faces is None else faces.name
        with progress_bar("faces", steps(len(shown), bundle.manifest.precision == "int8")) as progress:
            report = full.judge(bundle, shown, source, thresholds, progress)
        if as_json:
            typer.echo(report.model_dump_json())
        else:
            Console().print(parity_table(report))
        passed &= report.passed
    if not passed:
        raise typer.Exit(EXIT_CHECK_FAILED)
