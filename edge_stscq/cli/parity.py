"""`edge-stscq parity`: how far the artefacts of bundles are from full precision."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edge_stscq.evaluation.thresholds import Thresholds

MODEL = Path("models/face64")
_ASKED = "Thresholds, otherwise those of MODEL/recipe.toml"


def _share(what: str, least: float = 0) -> typer.models.OptionInfo:
    return typer.Option(min=least, max=1, help=what, rich_help_panel=_ASKED, show_default=False)


def parity(
    bundles: Annotated[list[Path], typer.Argument(help="Bundle folders made by `edge-stscq export` from one model.")],
    faces: Annotated[
        Path | None, typer.Option(help="Folder or .tar of aligned crops; otherwise the first bundle's golden pictures.")
    ] = None,
    model: Annotated[Path, typer.Option(help="Model folder that the bundles were exported from.")] = MODEL,
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
    from edge_stscq.device import open_bundle
    from edge_stscq.evaluation.artefact import check_same_model
    from edge_stscq.evaluation.bundle_parity import FullPrecision, PairedFaces, golden_faces
    from edge_stscq.evaluation.faces import load_faces
    from edge_stscq.evaluation.parity_matrix import matrix
    from edge_stscq.evaluation.parity_page import page
    from edge_stscq.evaluation.recognisers import recogniser_folder
    from edge_stscq.evaluation.report import matrix_table, parity_table
    from edge_stscq.stream.files import write_file
    from targets.check import open_encoder

    asked = {
        "runtime_agreement": runtime_agreement,
        "token_agreement": token_agreement,
        "clear_agreement": clear_agreement,
        "group_agreement": group_agreement,
        "identity": identity,
        "accuracy_lost": accuracy_lost,
        "target_agreement": target_agreement,
    }
    thresholds, bar = _thresholds(model, floor, {name: value for name, value in asked.items() if value is not None})
    pictures = crops or faces
    if pairs is None and (crops, first) != (None, None):
        raise EdgeError("--crops and --first say which pairs to verify; give LFW's list with --pairs")
    if pairs is not None and pictures is None:
        raise EdgeError("--pairs names crops; give their folder or .tar with --crops")
    opened = [open_bundle(bundle) for bundle in bundles]
    for bundle in opened:
        check_same_model(bundle, model)
    artefacts = [open_encoder(bundle, verify=False) for bundle in opened]
    shown = golden_faces(opened[0]) if faces is None else load_faces(faces, count=count)
    source = f"the golden pictures of {bundles[0]}" if faces is None else faces.name
    paired = PairedFaces.load(pairs, pictures, first) if pairs and pictures else None
    full = FullPrecision(model, recogniser_folder(recognisers), shown, source, paired)
    if html is not None:
        _make_folder(html.parent)

    console, judged = Console(), []
    for artefact in artefacts:
        exact = artefact.bundle.manifest.exact
        judged.append(full.judge(artefact, thresholds.for_integers() if exact else thresholds))
        if as_json:
            typer.echo(judged[-1].report.model_dump_json())
        else:
            console.print(parity_table(judged[-1].report))
    if all(bundle.manifest.exact for bundle in opened):
        thresholds = thresholds.for_integers()
    between = matrix(judged, thresholds.target_agreement) if len(judged) > 1 else None
    if between is not None:
        if as_json:
            typer.echo(between.model_dump_json())
        else:
            console.print(matrix_table(between))
    if html is not None:
        write_file(html, page(judged, between, bar, datetime.now(UTC)))
    if not as_json:
        typer.echo(f"thresholds: {bar}")
        if html is not None:
            typer.echo(f"{html}: look at it")
    if not all(one.report.passed for one in judged) or (between is not None and not between.passed):
        raise typer.Exit(EXIT_CHECK_FAILED)


def _thresholds(model: Path, floor: bool, asked: dict[str, float]) -> tuple["Thresholds", str]:
    """What is asked for, and in words where it is stated."""
    from edge_stscq.errors import EdgeError
    from edge_stscq.evaluation.thresholds import ParityBars, Thresholds
    from edge_stscq.training.recipe import Recipe

    path = model / "recipe.toml"
    recipe = Recipe.load(path) if path.exists() else None
    stated = ParityBars() if recipe is None else recipe.parity
    bar = f"[parity] of {path}" if recipe is not None and "parity" in recipe.model_fields_set else "the built-in ones"
    thresholds: Thresholds = stated
    if floor:
        if stated.floor is None:
            raise EdgeError(f"{path} states no floor; write the table [parity.floor] there, see docs/parity.md")
        thresholds, bar = stated.floor, f"[parity.floor] of {path}"
    return thresholds.model_copy(update=asked), f"{bar}, changed by options: {', '.join(asked)}" if asked else bar


def _make_folder(folder: Path) -> None:
    """Before the long work, not after it."""
    from edge_stscq.errors import EdgeError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EdgeError(f"cannot write to {folder}: {error.strerror}; choose another place for --html") from None
