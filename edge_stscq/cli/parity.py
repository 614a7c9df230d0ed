"""`edge-stscq parity`: how far the artefacts of bundles are from full precision."""

from pathlib import Path
from typing import Annotated

import typer

from edge_stscq.cli.options import MODEL, Model, folder
from edge_stscq.cli.ui import progress_bar

_ASKED = "Thresholds, otherwise those of MODEL/recipe.toml"


def _share(what: str, least: float = 0) -> typer.models.OptionInfo:
    return typer.Option(min=least, max=1, help=what, rich_help_panel=_ASKED, show_default=False)


def parity(
    bundles: Annotated[
        list[Path], typer.Argument(parser=folder, help="Bundle folders made by `edge-stscq export` from one model.")
    ],
    faces: Annotated[
        Path | None, typer.Option(help="Folder or .tar of aligned crops; otherwise the first bundle's golden pictures.")
    ] = None,
    model: Model = MODEL,
    count: Annotated[int, typer.Option(min=1, help="At most this many faces, spread over all of them.")] = 200,
    pairs: Annotated[
        Path | None, typer.Option(help="LFW's pairs.txt: also compare verification accuracy at every layer.")
    ] = None,
    crops: Annotated[
        Path | None, typer.Option(help="Folder or .tar with the aligned crops that the pairs name; otherwise --faces.")
    ] = None,
    first: Annotated[
        int | None, typer.Option(min=1, help="Only the first N pairs; whole folds, two or more (1200 = two folds).")
    ] = None,
    recognisers: Annotated[
        Path | None, typer.Option(help="Folder of the recognisers; otherwise EDGE_STSCQ_DATA/recognisers.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Also write a page with plots and the worst faces.")] = None,
    floor: Annotated[
        bool, typer.Option("--floor", help="Ask only for the recipe's floor: has it become worse?")
    ] = False,
    runtime_agreement: Annotated[
        float | None, _share("Least share of equal tokens, artefact against its graph.")
    ] = None,
    token_agreement: Annotated[
        float | None, _share("Least share of equal tokens, artefact against full precision.")
    ] = None,
    clear_agreement: Annotated[
        float | None, _share("The same, of tokens whose margin is above the median margin of the flips.")
    ] = None,
    group_agreement: Annotated[
        float | None, _share("Least share of equal groups, artefact against full precision.")
    ] = None,
    excess_distortion: Annotated[
        float | None, _share("Most by which codewords lie farther from full-precision vectors, in the worst layer.")
    ] = None,
    identity: Annotated[
        float | None, _share("Least mean cosine between faces decoded from both codes.", least=-1)
    ] = None,
    accuracy_lost: Annotated[
        float | None, _share("Most verification accuracy lost at any layer; 0.001 is a tenth of a point.")
    ] = None,
    target_agreement: Annotated[
        float | None, _share("Least share of equal tokens between two artefacts of one precision.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, an object a line: each bundle, then the matrix of several.")
    ] = False,
) -> None:
    """Compare artefacts with their quantised graph, with the full-precision student and with each other.

    Exit code 1 below a threshold.
    """
    from rich.console import Console

    from edge_stscq.errors import EXIT_CHECK_FAILED, EdgeError, require

    require("torch", "train")
    from edge_stscq._files import make_folder
    from edge_stscq.bundle import open_bundle
    from edge_stscq.cli.tables import matrix_table, parity_table
    from edge_stscq.codec.model import Codec
    from edge_stscq.data.crops import load_faces
    from edge_stscq.evaluation.parity.bundles import PairedFaces
    from edge_stscq.evaluation.parity.compare import BundleResult
    from edge_stscq.evaluation.parity.report import compare_bundles, stated_thresholds
    from edge_stscq.recognizers import recognizer_folder

    asked = {
        "runtime_agreement": runtime_agreement,
        "token_agreement": token_agreement,
        "clear_agreement": clear_agreement,
        "group_agreement": group_agreement,
        "excess_distortion": excess_distortion,
        "identity": identity,
        "accuracy_lost": accuracy_lost,
        "target_agreement": target_agreement,
    }
    thresholds = stated_thresholds(model, floor, {name: value for name, value in asked.items() if value is not None})
    pictures, console = crops or faces, Console()
    if pairs is None and (crops, first) != (None, None):
        raise EdgeError("--crops and --first say which pairs to verify; give LFW's list with --pairs")
    if pairs is not None and pictures is None:
        raise EdgeError("--pairs names crops; give their folder or .tar with --crops")
    if html is not None:
        make_folder(html.parent, "--html")

    def show(result: BundleResult) -> None:
        if as_json:
            typer.echo(result.report.model_dump_json())
        else:
            console.print(parity_table(result.report))

    report = compare_bundles(
        [open_bundle(bundle) for bundle in bundles], Codec.load(model),
        None if faces is None else load_faces(faces, count=count), source="" if faces is None else faces.name,
        thresholds=thresholds, paired=PairedFaces.load(pairs, pictures, first) if pairs and pictures else None,
        recognizers=recognizer_folder(recognisers), steps=progress_bar, on_result=show,
    )  # fmt: skip
    if report.matrix is not None and as_json:
        typer.echo(report.matrix.model_dump_json())
    elif report.matrix is not None:
        console.print(matrix_table(report.matrix))
    if html is not None:
        report.to_html(html)
    if not as_json:
        typer.echo(f"thresholds: {report.thresholds}")
        if html is not None:
            typer.echo(f"{html}: look at it")
    if not report.passed:
        raise typer.Exit(EXIT_CHECK_FAILED)
