"""`edge-stscq quantize`: make a student ready for int8 on real faces, once, where the faces are."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from edge_stscq.cli import ui

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quantization import Row

FEW = 300
"""Below this many faces the ranges depend on which they are."""


def quantize(
    faces: Annotated[Path, typer.Option(help="Folder or .tar of aligned crops, 128 x 128 or 144 x 144.")],
    model: Annotated[Path, typer.Option(help="Model folder; its student and calibration are replaced.")],
    count: Annotated[int, typer.Option(min=1, help="Calibrate with at most this many faces, spread over all.")] = 512,
    held_out: Annotated[int, typer.Option(min=1, help="Judge by at most this many others.")] = 128,
    observer: Annotated[
        Literal["minmax", "percentile", "mse", "kl"],
        typer.Option(help="How the range of an activation is chosen."),
    ] = "mse",
    percentile: Annotated[
        float, typer.Option(min=50, max=100, help="Share of values not clipped, for --observer percentile.")
    ] = 99.99,
    bias_correction: Annotated[bool, typer.Option(help="Take back how int8 shifts the mean of each channel.")] = True,
    sensitivity: Annotated[bool, typer.Option("--sensitivity", help="Show what each layer costs in int8.")] = False,
    agreement: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Keep the fewest layers in float32 that give this share of equal tokens."),
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option(help="Keep this layer in float32; may be repeated. --sensitivity names them.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Measure and print, but write nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Equalise the student's channels, put its weights on the int8 grid, calibrate and keep what was measured.

    Rewrites MODEL/student.safetensors (the same function but for that rounding) and MODEL/calibration.safetensors. The
    faces are not kept.

    Exit code 1: the wanted agreement needs every layer in float32; nothing is written.
    """
    from dataclasses import asdict

    from rich.console import Console

    from edge_stscq.errors import EXIT_CHECK_FAILED, EdgeError, require

    require("torch", "executorch")
    from edge_stscq.bundle.model_folder import load_config
    from edge_stscq.codec.encoder import EdgeEncoder
    from edge_stscq.codec.store import load_student, save_student
    from edge_stscq.data.crops import load_faces
    from quantization.pipeline import UnreachableAgreementError, quantize_student, split_faces

    if load_config(model).student_layers:
        said = f"{model} has a student that was trained in integers: it needs no calibration, nothing was done"
        typer.echo(json.dumps({"calibration": None, "integers": True, "message": said}) if as_json else said)
        return
    if keep and agreement is not None:
        raise EdgeError("--agreement chooses what stays in float32, --keep names it; give one of them")
    console, student = Console(stderr=True), load_student(model)
    assert isinstance(student, EdgeEncoder)
    seen, judged = split_faces(load_faces(faces, count=count + held_out).images, held_out / (count + held_out))
    if len(seen) < FEW:
        console.print(f"[yellow]only {ui.count(len(seen), 'face')}[/yellow]: at least {FEW} are recommended")
    try:
        found = quantize_student(
            student, seen, judged, min_agreement=agreement, keep=keep or (), observer=observer, percentile=percentile,
            correct_biases=bias_correction, measure_sensitivity=sensitivity, steps=ui.progress_bar,
        )  # fmt: skip
    except UnreachableAgreementError:
        console.print(
            f"[red]only full precision gives {agreement:.1%} of the tokens[/red]: nothing was written; "
            "ask for a smaller --agreement, or export with --precision fp32"
        )
        raise typer.Exit(EXIT_CHECK_FAILED) from None
    calibration = found.calibration
    if not dry_run:
        save_student(model, student)
        calibration.save(model)
    report = {
        "calibration": None if dry_run else str(model / "calibration.safetensors"),
        "observer": calibration.observer, "faces": calibration.count, "faces_sha256": calibration.faces_sha256,
        "backbone_sha256": calibration.backbone_sha256, "tensors": len(calibration.ranges),
        "biases_corrected": bool(calibration.biases), "kept": calibration.kept, "held_out_faces": found.held_out,
        "tokens": found.tokens, "layers": student.config.layer_names, "tokens_by_layer": found.tokens_by_layer,
        "sqnr_db": found.sqnr, "sensitivity": [asdict(row) for row in found.rows],
    }  # fmt: skip
    if as_json:
        typer.echo(json.dumps(report))
    else:
        kept = [row for row in found.rows if row.layer in calibration.kept]
        _print(report, found.rows if sensitivity else kept, found.rows, model)


def _print(report: dict[str, Any], shown: "Sequence[Row]", rows: "Sequence[Row]", model: Path) -> None:
    """The result for people: what each shown layer costs, what int8 gives, what comes next."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    kept = report["kept"]
    if rows:
        part = sum(row.macs for row in rows if row.layer in kept) / sum(row.macs for row in rows)
        title = f"{len(kept)} of {len(rows)} layers stay in float32 (*), {part:.1%} of the multiplications"
        table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column("\nlayer", no_wrap=True)
        table.add_column("\noperator", no_wrap=True)
        for heading in ("\nMMAC", "alone\nlost", "\nSQNR", "so far\nlost", "\nSQNR"):
            table.add_column(heading, justify="right", no_wrap=True)
        for row in shown:
            losses = [cell for loss in (row.alone, row.so_far) for cell in (f"{loss.tokens:.2%}", _decibels(loss.sqnr))]
            name = f"{row.layer} *" if row.layer in kept else row.layer
            table.add_row(name, row.kind, f"{row.macs / 1e6:.1f}", *losses)
        Console().print(table)
    layers = ", ".join(
        f"{name} {share:.1%}" for name, share in zip(report["layers"], report["tokens_by_layer"], strict=True)
    )
    typer.echo(
        f"int8 gives {report['tokens']:.1%} of the student's tokens on {report['held_out_faces']} held-out faces "
        f"({layers}); SQNR of the token vectors {_decibels(report['sqnr_db'])}"
    )
    biases = ", biases corrected" if report["biases_corrected"] else ""
    measured = (
        f"ranges of {report['tensors']} tensors ({report['observer']}) from {ui.count(report['faces'], 'face')}{biases}"
    )
    if report["calibration"] is None:
        typer.echo(f"{measured}; nothing was written")
    else:
        typer.echo(f"{report['calibration']}: {measured}")
        typer.echo(f"next:\n  edge-stscq export --model {model} --target all")


def _decibels(value: float | None) -> str:
    return "no noise" if value is None else f"{value:.1f} dB"
