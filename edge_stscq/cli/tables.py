"""Reports as tables for people. Numbers are the same as in the JSON."""

from collections.abc import Sequence

from rich.console import Group
from rich.markup import escape
from rich.table import Table

from edge_stscq.cli.ui import count
from edge_stscq.config.match_thresholds import LayerThresholds, Limits, MatchThresholds, Rate
from edge_stscq.config.template_thresholds import TemplateThresholds
from edge_stscq.config.thresholds import Check
from edge_stscq.evaluation.parity.accuracy import Accuracy
from edge_stscq.evaluation.parity.compare import Parity
from edge_stscq.evaluation.parity.cross_target import AgreementMatrix
from edge_stscq.evaluation.parity.summary import (
    accuracy_cell,
    agreement_rows,
    comparisons,
    decibels,
    percent,
    picture_rows,
)
from edge_stscq.evaluation.rate.curves import RateReport
from edge_stscq.evaluation.speed.report import EncodeReport, Peak, Row, Run
from edge_stscq.evaluation.verification.layers import VerificationReport
from targets import Target, find


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
    source = (
        f"{count(report.pictures.faces, 'face')} from {escape(report.faces)}; the student is the full-precision model"
    )
    return Group(*tables, source, *_verdict(report.checks))


def matrix_table(report: AgreementMatrix) -> Group:
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


def thresholds_table(found: MatchThresholds) -> Group:
    """The scores of each layer and their rates, then false matches by label."""
    origin = found.measured
    scores = Table("layers", title=f"{origin.encoder}: scores that stranger pairs pass")
    for heading in ("compared with", "1 in 1,000", "same person\naccepted", "1 in 10,000", "same person\naccepted"):
        scores.add_column(heading, justify="right")
    for row in found.layers:
        for against, limits in (("one face", row.pair), ("a visit's average", row.track)):
            if limits is not None:
                scores.add_row(escape(row.name), against, *_limit_cells(limits))
    tables = [scores, *(_label_table(row) for row in found.layers if row.labels)]
    return Group(
        *tables,
        f"{count(origin.stranger_pairs, 'pair')} of strangers, {count(origin.faces, 'face')} of "
        f"{origin.people:,} people from {escape(', '.join(origin.crops))}; intervals of 95 %, and 1 in 10,000 is "
        "claimed of no label: its pairs are too few",
    )


def template_thresholds_table(found: TemplateThresholds) -> Group:
    """The scores of each scheme and their rates."""
    origin = found.measured
    scores = Table("scheme", title=f"{origin.encoder}: scores that strangers pass under the template's key")
    for heading in ("1 in 1,000", "same person\naccepted", "1 in 10,000", "same person\naccepted"):
        scores.add_column(heading, justify="right")
    for each in found.schemes:
        scores.add_row(escape(each.scheme), *_limit_cells(each.limits))
    return Group(
        scores,
        f"{count(origin.stranger_pairs, 'pair')} of strangers, {count(origin.faces, 'face')} of "
        f"{origin.people:,} people from {escape(', '.join(origin.crops))}",
    )


def _limit_cells(limits: Limits) -> list[str]:
    cells = []
    for limit in (limits.perhaps, limits.same_person):
        accepted = limit.same_accepted
        cells += [f"{limit.score:.3f}", "-" if accepted is None else f"{accepted.rate:.1%}"]
    return cells


def _label_table(row: LayerThresholds) -> Table:
    table = Table("label", "", "people", title=f"false matches by label, {escape(row.name)}")
    for heading in ("at 1 in 1,000", "at 1 in 10,000"):
        table.add_column(heading, justify="right")
    for one in row.labels:
        rates = (_interval(one.perhaps), _interval(one.same_person))
        table.add_row(escape(one.label), escape(one.value), str(one.people), *rates)
    return table


def _interval(rate: Rate) -> str:
    return f"{rate.rate:.3%} ({rate.low:.3%} to {rate.high:.3%})"


def verification_table(report: VerificationReport) -> Group:
    """One row per layer, one column per way to compare."""
    names = list(report.originals)
    table = Table("layer", title=f"{report.model}, {report.subject}: verification accuracy in %")
    for heading in ("tokens", "payload bytes", "compressed domain", *(f"decoded, {name}" for name in names),
                    *(f"IDS, {name}" for name in names), "PSNR dB", "MS-SSIM"):  # fmt: skip
        table.add_column(heading, justify="right")
    for layer in report.layers:
        size = f"{layer.payload_bytes:.1f}" + ("" if layer.entropy_coded else " (fixed length)")
        table.add_row(
            layer.name, str(layer.tokens), size, accuracy_cell(layer.compressed),
            *(accuracy_cell(layer.decoded[name]) for name in names), *(f"{layer.identity[name]:.3f}" for name in names),
            decibels(layer.psnr), f"{layer.ms_ssim:.3f}",
        )  # fmt: skip
    table.add_row("original", "", "", "", *(accuracy_cell(report.originals[name]) for name in names))
    return Group(table, f"{report.protocol}; {count(report.faces, 'face')}", *_appearance(report))


def _appearance(report: VerificationReport) -> list[Table | str]:
    """Table of the metrics of decoded faces' appearance, if they were asked for."""
    rows = [(layer.name, layer.appearance) for layer in report.layers if layer.appearance is not None]
    if not rows or report.frechet_between_halves is None:
        return []
    table = Table("layer", title="decoded faces beside their originals")
    for heading in ("Frechet distance", "perceptual distance", "SSIMULACRA 2", "total variation"):
        table.add_column(heading, justify="right")
    for name, look in rows:
        variation = "-" if look.total_variation is None else f"{look.total_variation:.2f}"
        table.add_row(name, f"{look.frechet:.1f}", f"{look.perceptual:.3f}", f"{look.ssimulacra2:.1f}", variation)
    table.add_row("half of the originals, beside the others", f"{report.frechet_between_halves:.1f}")
    return [table, f"perceptual distance and SSIMULACRA 2 are means of {rows[0][1].compared} faces"]


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


def encode_table(report: EncodeReport) -> Group:
    """Every encoder, and its speed for each number of threads."""
    about = Table("encoder", "", "run by", title=f"{report.model}: encoders")
    for heading in ("artefact", "memory", "of it loaded"):
        about.add_column(heading, justify="right")
    for row in report.encoders:
        color = "green" if row.status == "passed" else "red"
        size = "-" if row.artefact_bytes is None else f"{row.artefact_bytes / 1e6:.1f} MB"
        if row.network_bytes is not None:
            size += f" ({row.network_bytes / 1e6:.1f} MB without codebooks)"
        memory, loaded = "-", "-"
        if row.memory is not None:
            memory = f"{row.memory.peak_mib:.0f} MiB"
            loaded = f"{row.memory.peak_mib - row.memory.before_mib:.0f} MiB"
        runtime = escape((row.runtime or "-").split(" (")[0])
        about.add_row(escape(row.name), f"[{color}]{row.status}[/{color}]", runtime, size, memory, loaded)
    return Group(about, *(_speed(report, peak) for peak in report.peaks), *map(escape, _notes(report)))


def _speed(report: EncodeReport, peak: Peak) -> Table:
    threads = f"{peak.threads} thread" + ("s" if peak.threads > 1 else "")
    table = Table(title=f"milliseconds for a picture, {threads}, {report.rounds} rounds")
    table.add_column("encoder", no_wrap=True)
    for heading in ("median", "10-90 %", "+ frame", "of peak", "student", "teacher"):
        table.add_column(heading, justify="right")
    for row in report.encoders:
        for run in row.runs:
            if run.threads == peak.threads:
                table.add_row(
                    row.name, f"{run.encode.median_ms:.2f}", f"{run.encode.p10_ms:.1f}-{run.encode.p90_ms:.1f}",
                    "-" if run.frame is None else f"{run.frame.median_ms:.2f}",
                    "-" if run.of_peak is None else f"{run.of_peak:.0%}",
                    *(f"{_faster(report, run, name):.2f} x" for name in ("student", "teacher")),
                )  # fmt: skip
    return table


def _faster(report: EncodeReport, run: Run, name: str) -> float:
    """Factor by which a run is faster than a network in torch on as many threads."""
    networks = (row.runs for row in report.encoders if row.name == name)
    theirs = next(other for runs in networks for other in runs if other.threads == run.threads)
    return theirs.encode.median_ms / run.encode.median_ms


def _notes(report: EncodeReport) -> list[str]:
    lines = [
        "+ frame: with entropy coding and CRC; student, teacher: times faster than these in torch",
        f"multiply-accumulates: student {report.student_macs / 1e6:.0f} million, "
        f"teacher {report.teacher_macs / 1e6:.0f} million; {report.pictures} pictures in turn",
    ]
    for peak in report.peaks:
        fp32, int8 = ("not measured" if rate is None else f"{rate:.0f}" for rate in (peak.fp32, peak.int8))
        lines.append(f"peak of {peak.threads} thread(s), GOP/s of a matrix product: fp32 {fp32}, int8 {int8}")
    for row in report.encoders:
        if row.fell_back is not None:
            kinds = ", ".join(f"{number} {kind}" for kind, number in row.fell_back.items()) or "none"
            lines.append(f"{row.name}: {_target(row).undelegated}: {kinds}")
        elif row.artefact_bytes is not None and row.runtime is not None and not _target(row).undelegated:
            lines.append(f"{row.name}: run by {row.runtime}; it has no delegate that says what falls back")
        if row.picture_bytes is not None:
            lines.append(f"{row.name}: {row.picture_bytes:.0f} bytes a picture; {row.runtime}")
        if row.reason is not None:
            lines.append(f"{row.name}: {row.status}: {row.reason}")
    return lines + [f"not measured: {name}: {why}" for name, why in report.skipped.items()]


def _target(row: Row) -> Target:
    """The target of a bundle's row, whose name is target and precision."""
    return find(row.name.split()[0])[0]
