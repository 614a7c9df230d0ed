"""Reports as tables for people, and the bar that shows how far a long run is.

Everything goes through a `rich` console that the caller chooses; numbers are the same as in the JSON.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from edge_stscq.codec.config import LAYER_NAMES
from edge_stscq.evaluation.agreement import Agreement
from edge_stscq.evaluation.lfw import Judgement
from edge_stscq.evaluation.parity import Parity
from edge_stscq.evaluation.rate import RateReport
from edge_stscq.evaluation.subject import Progress as Advance
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
    """The comparisons side by side, the decoded faces, and what passed."""
    graph = "int8 graph" if report.quantisation else "student"
    columns = [(f"artefact\nvs {graph}", report.runtime)]
    if report.quantisation:
        columns += [("int8 graph\nvs student", report.quantisation)]
        columns += [("artefact\nvs student", report.device)]
    title = f"{report.bundle}: {report.target} {report.precision} on {report.executor}"
    table = Table("agreement", title=escape(title))
    for heading, _ in columns:
        table.add_column(heading, justify="right")
    rows = [_agreement_rows(agreement) for _, agreement in columns]
    for cells in zip(*rows, strict=True):
        table.add_row(cells[0][0], *(value for _, value in cells))
    p = report.pictures
    pictures = Table("decoded faces, artefact vs student")
    pictures.add_column("", justify="right")
    pictures.add_row("PSNR, all faces", _decibels(p.psnr))
    pictures.add_row("PSNR, worst face", _decibels(p.psnr_worst))
    pictures.add_row(f"identity cosine ({p.embedded_by}), mean", f"{p.identity:.4f}")
    pictures.add_row("identity cosine, 95 % of faces reach", f"{p.identity_p05:.4f}")
    pictures.add_row("identity cosine, worst face", f"{p.identity_worst:.4f}")
    pictures.add_row("faces with identical codes", _percent(p.identical))
    source = escape(f"{p.faces} faces from {report.faces}; the student is the full-precision model")
    verdict = [f"[red]failed[/red]: {escape(line)}" for line in report.failures]
    return Group(table, pictures, source, *(verdict or ["[green]passed[/green] every threshold"]))


def judgement_table(report: Judgement) -> Group:
    """One row per layer, one column per way to compare."""
    names = list(report.originals)
    table = Table("layer", title=f"{report.model}, {report.subject}: verification accuracy in %")
    for heading in ("tokens", "payload bytes", "compressed domain", *(f"decoded, {name}" for name in names),
                    *(f"IDS, {name}" for name in names), "PSNR dB", "MS-SSIM"):  # fmt: skip
        table.add_column(heading, justify="right")
    for layer in report.layers:
        size = f"{layer.payload_bytes:.1f}" + ("" if layer.entropy_coded else " (fixed length)")
        table.add_row(
            layer.name, str(layer.tokens), size, _accuracy(layer.compressed),
            *(_accuracy(layer.decoded[name]) for name in names), *(f"{layer.identity[name]:.3f}" for name in names),
            _decibels(layer.psnr), f"{layer.ms_ssim:.3f}",
        )  # fmt: skip
    table.add_row("original", "", "", "", *(_accuracy(report.originals[name]) for name in names))
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


def _agreement_rows(a: Agreement) -> list[tuple[str, str]]:
    layers = zip(LAYER_NAMES, a.layers, strict=True)
    quartiles = ("nearest ties", "2nd quarter", "3rd quarter", "clearest")
    return [
        ("tokens", _percent(a.tokens)),
        *((f"  {name} layer", _percent(value)) for name, value in layers),
        ("tokens, groups equal", _percent(a.tokens_in_same_group)),
        *((f"  margin: {q}", _percent(m.tokens)) for q, m in zip(quartiles, a.margins, strict=True)),
        ("groups", _percent(a.groups)),
        ("whole codes", _percent(a.faces_equal)),
        ("flips, mean distance", "-" if a.flip_distance is None else f"{a.flips}, {a.flip_distance:.2f}"),
    ]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"


def _decibels(value: float | None) -> str:
    return "identical" if value is None else f"{value:.2f}"


def _accuracy(value: Verification | None) -> str:
    return "-" if value is None else f"{100 * value.accuracy:.2f} ± {100 * value.standard_error:.2f}"
