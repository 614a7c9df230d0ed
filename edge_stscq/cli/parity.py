"""`edge-stscq parity`: how far the artefacts of bundles are from full precision."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_stscq.cli.options import MODEL, Model, folder

if TYPE_CHECKING:
    from edge_stscq.config.thresholds import Thresholds

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
    from datetime import UTC, datetime

    from rich.console import Console

    from edge_stscq.errors import EXIT_CHECK_FAILED, EdgeError, require

    require("torch", "train")
    from edge_stscq._files import make_folder, write_file
    from edge_stscq.bundle import open_bundle
    from edge_stscq.cli.tables import matrix_table, parity_table
    from edge_stscq.cli.ui import progress_bar
    from edge_stscq.codec.model import Codec
    from edge_stscq.data.crops import load_faces
    from edge_stscq.evaluation.parity.bundles import FullPrecision, PairedFaces, golden_faces
    from edge_stscq.evaluation.parity.cross_target import cross_target_agreement
    from edge_stscq.evaluation.parity.html.page import page
    from edge_stscq.recognizers import recognizer_folder
    from targets.subprocess_check import load_encoder_or_reference

    asked = {
        "runtime_agreement": runtime_agreement,
        "token_agreement": token_agreement,
        "clear_agreement": clear_agreement,
        "group_agreement": group_agreement,
        "identity": identity,
        "accuracy_lost": accuracy_lost,
        "target_agreement": target_agreement,
    }
    thresholds, threshold_source = _thresholds(
        model, floor, {name: value for name, value in asked.items() if value is not None}
    )
    pictures = crops or faces
    if pairs is None and (crops, first) != (None, None):
        raise EdgeError("--crops and --first say which pairs to verify; give LFW's list with --pairs")
    if pairs is not None and pictures is None:
        raise EdgeError("--pairs names crops; give their folder or .tar with --crops")
    codec, opened = Codec.load(model), [open_bundle(bundle) for bundle in bundles]
    for bundle in opened:
        codec.check_bundle(bundle)
    artefacts = [load_encoder_or_reference(bundle, verify=False) for bundle in opened]
    shown = golden_faces(opened[0]) if faces is None else load_faces(faces, count=count)
    source = f"the golden pictures of {bundles[0]}" if faces is None else faces.name
    paired = PairedFaces.load(pairs, pictures, first) if pairs and pictures else None
    full = FullPrecision(codec, recognizer_folder(recognisers), shown, source, paired, steps=progress_bar)
    if html is not None:
        make_folder(html.parent, "--html")

    console, judged = Console(), []
    for artefact in artefacts:
        exact = artefact.bundle.manifest.exact
        judged.append(full.evaluate(artefact, thresholds.for_integers() if exact else thresholds))
        if as_json:
            typer.echo(judged[-1].report.model_dump_json())
        else:
            console.print(parity_table(judged[-1].report))
    if all(bundle.manifest.exact for bundle in opened):
        thresholds = thresholds.for_integers()
    between = cross_target_agreement(judged, thresholds.target_agreement) if len(judged) > 1 else None
    if between is not None:
        if as_json:
            typer.echo(between.model_dump_json())
        else:
            console.print(matrix_table(between))
    if html is not None:
        write_file(html, page(judged, between, threshold_source, datetime.now(UTC)))
    if not as_json:
        typer.echo(f"thresholds: {threshold_source}")
        if html is not None:
            typer.echo(f"{html}: look at it")
    if not all(one.report.passed for one in judged) or (between is not None and not between.passed):
        raise typer.Exit(EXIT_CHECK_FAILED)


def _thresholds(model: Path, floor: bool, asked: dict[str, float]) -> tuple["Thresholds", str]:
    """Thresholds that are asked for, and in words where they are stated."""
    from edge_stscq.config.recipe import Recipe
    from edge_stscq.config.thresholds import ParityThresholds, Thresholds
    from edge_stscq.errors import EdgeError

    path = model / "recipe.toml"
    recipe = Recipe.load(path) if path.exists() else None
    stated = ParityThresholds() if recipe is None else recipe.parity
    threshold_source = (
        f"[parity] of {path}" if recipe is not None and "parity" in recipe.model_fields_set else "the built-in ones"
    )
    thresholds: Thresholds = stated
    if floor:
        if stated.floor is None:
            raise EdgeError(f"{path} states no floor; write the table [parity.floor] there, see docs/parity.md")
        thresholds, threshold_source = stated.floor, f"[parity.floor] of {path}"
    return thresholds.model_copy(
        update=asked
    ), f"{threshold_source}, changed by options: {', '.join(asked)}" if asked else threshold_source
