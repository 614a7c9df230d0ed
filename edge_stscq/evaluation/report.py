"""Reports as tables for people, and the bar that shows how far a long run is.

Everything goes through a `rich` console that the caller chooses; numbers are the same as in the JSON.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, Group
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from edge_stscq.evaluation.agreement import Agreement
from edge_stscq.evaluation.lfw import Judgement
from edge_stscq.evaluation.parity import Parity
from edge_stscq.evaluation.parity_accuracy import Accuracy
from edge_stscq.evaluation.parity_matrix import Matrix
from edge_stscq.evaluation.rate import RateReport
from edge_stscq.evaluation.subject import Progress as Advance
from edge_stscq.evaluation.thresholds import Check
from edge_stscq.evaluation.verification import Verification


@contextmanager
def progress_bar(description: str, total: int) -> Iterator[Advance]:
    """A bar on stderr that disappears when done; nothing is drawn where stderr is no terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), "left",
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(description, total=total)
        yield lambda done: bar.advance(task, done)


def parity_table(report: Parity) -> Group:
    """The comparisons side by side, the decoded faces, verification, and what passed."""
    columns = comparisons(report)
    title = f"{report.bundle}: {report.target} {report.precision} on {report.executor}"
    table = Table("agreement", title=escape(title))
    for heading, _ in columns:
        table.add_column(heading.replace(" vs ", "\nvs "), justify="right")
    for cells in zip(*(agreement_rows(agreement, report.layer_names) for _, agreement in columns), strict=True):
        table.add_row(cells[0][0], *(value for _, value in cells))
    pictures = Table("decoded faces, artefact vs student", "")
    for name, value in picture_rows(report):
        pictures.add_row(name, value)
    pictures.columns[1].justify = "right"
    tables = [table, pictures] + ([_accuracy_table(report.accuracy)] if report.accuracy else [])
    source = f"{report.pictures.faces} faces from {escape(report.faces)}; the student is the full-precision model"
    return Group(*tables, source, *_verdict(report.checks))


def comparisons(report: Parity) -> list[tuple[str, Agreement]]:
    """The comparisons of a report and what is compared: three, or one of an fp32 artefact."""
    if report.quantisation is None:
        return [("artefact vs student", report.device)]
    return [
        ("artefact vs quantised graph", report.runtime),
        ("quantised graph vs student", report.quantisation),
        ("artefact vs student", report.device),
    ]


def matrix_table(report: Matrix) -> Group:
    """Share of equal tokens between every two artefacts."""
    table = Table("", "equal tokens", title="artefacts against each other")
    for number, _ in enumerate(report.bundles, 1):
        table.add_column(str(number), justify="right")
    for number, (name, row) in enumerate(zip(report.bundles, report.tokens, strict=True), 1):
        table.add_row(str(number), escape(name), *map(percent, row))
    return Group(table, *_verdict(report.checks))


def _accuracy_table(report: Accuracy) -> Group:
    table = Table("layer", "compared", title="verification accuracy in %")
    for heading in ("student", "artefact", "lost, points"):
        table.add_column(heading, justify="right")
    for row in report.rows:
        table.add_row(
            row.layer, row.compared, accuracy_cell(row.full), accuracy_cell(row.device), f"{100 * row.lost:+.2f}"
        )
    return Group(table, report.protocol)


def _verdict(checks: Sequence[Check]) -> list[str]:
    failed = [f"[red]failed[/red]: {escape(str(check))}" for check in checks if not check.passed]
    return failed or ["[green]passed[/green] every threshold"] if checks else []


def judgement_table(report: Judgement) -> Group:
    """One row per layer, one column per way to compare."""
    names = list(report.originals)
    table = Table("layer", title=f"{report.model}, {report.subject}: verification accuracy in %")
    for heading in ("tokens", "payload bytes", "compressed domain", *(f"decoded, {name}" for name in names),
                    *(f"IDS, {name}" for name in names), "PSNR dB", "MS-SSIM", "perceptual"):  # fmt: skip
        table.add_column(heading, justify="right")
    for layer in report.layers:
        size = f"{layer.payload_bytes:.1f}" + ("" if layer.entropy_coded else " (fixed length)")
        table.add_row(
            layer.name, str(layer.tokens), size, accuracy_cell(layer.compressed),
            *(accuracy_cell(layer.decoded[name]) for name in names), *(f"{layer.identity[name]:.3f}" for name in names),
            decibels(layer.psnr), f"{layer.ms_ssim:.3f}", f"{layer.perceptual:.3f}",
        )  # fmt: skip
    table.add_row("original", "", "", "", *(accuracy_cell(report.originals[name]) for name in names))
    return Group(table, f"{report.protocol}; {report.faces} faces")


def rate_table(report: RateReport) -> Group:
    """Our layers, the cheapest settings of each peer, and what is saved at equal accuracy."""
    points = Table("codec", "setting", title="decoded faces: verification accuracy in %")
    for heading in ("bytes sent", "payload bytes", "accuracy", "IDS"):
        points.add_column(heading, justify="right")
    for curve in (report.ours, *report.peers, *report.published):
        for point in sorted(curve.points, key=lambda point: point.container_bytes):
            identity = "-" if point.identity is None else f"{point.identity:.3f}"
            points.add_row(
                curve.codec, point.setting, f"{point.container_bytes:.0f}", f"{point.payload_bytes:.0f}",
                f"{100 * point.accuracy:.2f} ± {100 * point.standard_error:.2f}", identity,
            )  # fmt: skip
        points.add_section()
    savings = Table("bytes saved against", "counted", title="at equal accuracy")
    for heading in ("Bjontegaard", *(point.setting for point in report.ours.points)):
        savings.add_column(heading, justify="right")
    for row in report.savings:
        savings.add_row(row.peer, row.counted, _share(row.bjontegaard), *map(_share, row.at_layer.values()))
    missing = (f"not measured: {name}: {escape(why)}" for name, why in report.missing.items())
    note = "-: the peer does not reach this accuracy with the settings tried, or exceeds it with all of them"
    return Group(points, savings, note, report.protocol, *missing)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def agreement_rows(a: Agreement, layer_names: Sequence[str]) -> list[tuple[str, str]]:
    """What an agreement says, line by line."""
    layers = zip(layer_names, a.layers, strict=True)
    quartiles = ("nearest ties", "2nd quarter", "3rd quarter", "clearest")
    far, low = a.flip_distances, min(a.positions)
    return [
        ("tokens", percent(a.tokens)),
        *((f"  {name} layer", percent(value)) for name, value in layers),
        ("  worst position", f"{percent(low)} (at {a.positions.index(low)})"),
        ("tokens, groups equal", percent(a.tokens_in_same_group)),
        *((f"  margin: {q}", percent(m.tokens)) for q, m in zip(quartiles, a.margins, strict=True)),
        ("  margin > flips' median", percent(a.clear_tokens)),
        ("groups", percent(a.groups)),
        ("whole codes", percent(a.faces_equal)),
        ("flips", str(a.flips)),
        ("  distance: mean, median", "-" if far is None else f"{far.mean:.2f}, {far.median:.2f}"),
        ("  distance: 95 %, largest", "-" if far is None else f"{far.p95:.2f}, {far.largest:.2f}"),
    ]


def picture_rows(report: Parity) -> list[tuple[str, str]]:
    """What decoded faces say, line by line."""
    p = report.pictures
    return [
        ("PSNR in dB, all faces", decibels(p.psnr)),
        ("PSNR in dB, worst face", decibels(p.psnr_worst)),
        (f"identity cosine ({p.embedded_by}), mean", f"{p.identity:.4f}"),
        ("identity cosine, 95 % of faces reach", f"{p.identity_p05:.4f}"),
        ("identity cosine, worst face", f"{p.identity_worst:.4f}"),
    ]


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"


def decibels(value: float | None) -> str:
    return "identical" if value is None else f"{value:.2f}"


def accuracy_cell(value: Verification | None) -> str:
    return "-" if value is None else f"{100 * value.accuracy:.2f} ± {100 * value.standard_error:.2f}"
