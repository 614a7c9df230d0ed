"""`edge-stscq export`: a trained student to bundles that a device runs."""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from edge_stscq.bundle.manifest import Precision
from edge_stscq.cli.options import MODEL, Model
from edge_stscq.cli.ui import count, note, progress_console
from edge_stscq.stream.packed import CoderName
from targets import ALL, TARGETS

TARGET_HELP = "One of " + "; ".join(f"{t.name} ({', '.join(t.aliases)}): {t.description}" for t in TARGETS)


def export(
    target: Annotated[str, typer.Option("--target", "-t", help=f"{TARGET_HELP}; or {ALL}.")] = ALL,
    model: Model = MODEL,
    precision: Annotated[
        Precision,
        typer.Option(
            help="int8 weights and activations; w8: int8 weights and float32 arithmetic, not for executorch; or fp32. "
            "The first two need the calibration that `edge-stscq quantize` makes. A student made for integers needs "
            "none and has no w8."
        ),
    ] = "int8",
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the bundles, each in TARGET-PRECISION; made if absent.")
    ] = Path("bundles"),
    coder: Annotated[
        CoderName,
        typer.Option(
            help="static: frequency tables only. packed: faces too unlike the tables become one plain number, which is "
            "never longer. learned: frequencies that follow from the layers below, bounded likewise; servers that hold "
            "the model with its weights read it."
        ),
    ] = "static",
    force: Annotated[bool, typer.Option("--force", help="Replace bundles that are already there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as one JSON object.")] = False,
) -> None:
    """Lower the student for one target or all, run each artefact in a fresh process and write its bundle.

    Exit code 1: an artefact did not convert, crashed or answered differently from its graph; it leaves no bundle.
    """
    from edge_stscq.errors import EXIT_CHECK_FAILED, EdgeError
    from targets import find, golden
    from targets.captured import capture_model
    from targets.writer import ExportResult, bundle_folder, check_free, write_bundle

    begun, console = time.monotonic(), progress_console()
    chosen = [row for row in find(target) if target.strip().lower() != ALL or precision in row.precisions]
    for row in chosen:
        row.check_precision(precision)
    every = target.strip().lower() == ALL
    looked_at = chosen if every and not force else []
    there = [row for row in looked_at if _is_there(bundle_folder(output, row, precision), model, coder)]
    for row in there:
        note(f"{bundle_folder(output, row, precision)} is there already; --force makes it again")
    chosen = [row for row in chosen if row not in there]
    if not chosen:
        if as_json:
            typer.echo(json.dumps({"model": str(model), "bundles": [], "failed": {}, "there": [t.name for t in there]}))
        else:
            typer.echo(f"nothing to do: {count(len(there), 'bundle')} of this model in {output}")
        return
    for row in chosen:
        row.check_installed()
        check_free(bundle_folder(output, row, precision), force)
    with console.status(f"{model}: capturing the {precision} graph"):
        source = capture_model(model, precision)
    if not as_json:
        console.print(f"graph captured: {time.monotonic() - begun:.1f} s", highlight=False)
    reached = len(set(source.expected.group.tolist()))
    if reached < source.config.groups:
        console.print(
            f"[yellow]the golden pictures reach {reached} of {source.config.groups} groups[/yellow]; "
            f"none of {golden.MOST:,} pictures was surely sent to another"
        )
    written: list[tuple[ExportResult, float]] = []
    failed: dict[str, str] = {}
    for row in chosen:
        start = time.monotonic()
        with console.status(f"{row.name}: lowering, then running it in a fresh process"):
            try:
                bundle = write_bundle(source, row, bundle_folder(output, row, precision), force=force, coder=coder)
            except EdgeError as error:
                failed[row.name] = str(error)
                console.print(f"[red]{row.name}[/red]: ", end="")
                console.print(str(error), markup=False, highlight=False)
                continue
        written.append((bundle, time.monotonic() - start))
        console.print(f"[green]{row.name}[/green]: {written[-1][1]:.1f} s")
    if as_json:
        rows = [vars(bundle) | {"folder": str(bundle.folder), "seconds": round(t, 2)} for bundle, t in written]
        typer.echo(
            json.dumps({"model": str(model), "bundles": rows, "failed": failed, "there": [t.name for t in there]})
        )
    elif written:
        _report(written, model)
        note(f"all this took {time.monotonic() - begun:.1f} s")
    if failed:
        raise typer.Exit(EXIT_CHECK_FAILED)


def _is_there(folder: Path, model: Path, coder: CoderName) -> bool:
    """True if a bundle of this model is in the folder.

    Raises:
        EdgeError: what is there is damaged, or a bundle of another model or coder.
    """
    from edge_stscq.bundle import open_bundle
    from edge_stscq.bundle.manifest import MANIFEST
    from edge_stscq.bundle.model_folder import load_frame_codec
    from edge_stscq.errors import EdgeError

    if not (folder / MANIFEST).is_file():
        return False
    bundle = open_bundle(folder)
    if bundle.manifest.coder != coder:
        raise EdgeError(f"{folder} has coder {bundle.manifest.coder}, not {coder}; replace it with --force")
    if bundle.frames.model_id != load_frame_codec(model).model_id:
        raise EdgeError(f"{folder} is of another model; replace it with --force or choose another folder with -o")
    return True


def _report(written: list[tuple[Any, float]], model: Path) -> None:
    """The closing table, and the commands that come next."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    place = written[0][0].folder.parent
    known = any(bundle.network_bytes is not None for bundle, _ in written)
    table = Table(title=escape(f"bundles in {place}"))
    for heading in ("", "artefact", *["no codebooks"] * known, "bundle", "agrees", "run by", "seconds"):
        table.add_column(heading, overflow="fold")
    for bundle, seconds in written:
        network = "-" if bundle.network_bytes is None else _size(bundle.network_bytes)
        table.add_row(
            bundle.folder.name, _size(bundle.artefact_bytes), *[network] * known, _size(bundle.bundle_bytes),
            f"{bundle.agreement:.1%}", bundle.runtime.split(" (")[0], f"{seconds:.1f}",
        )  # fmt: skip
    Console().print(table)
    folder = written[0][0].folder
    typer.echo("next:")
    typer.echo(f"  edge-stscq selftest {folder}")
    typer.echo(f"  edge-stscq parity {folder} --model {model} --faces FOLDER_OF_CROPS")
    typer.echo(f"  edge-stscq capture --bundle {folder} --source 0 --output faces.stsq")


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} KB"
