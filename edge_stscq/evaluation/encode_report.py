"""The report of `edge-stscq bench encode`: its fields and its table."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from rich.console import Group
from rich.markup import escape
from rich.table import Table

from edge_stscq.device.manifest import Precision
from edge_stscq.evaluation.encode_trial import Trial

Status = Literal["passed", "exported, failed parity", "failed"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Timing(_Frozen):
    """Milliseconds for a picture."""

    median_ms: float
    p10_ms: float
    p90_ms: float
    least_ms: float


class Run(_Frozen):
    """One encoder on a number of threads."""

    threads: int
    encode: Timing = Field(description="picture in memory to tokens; to the file's bytes for a picture codec")
    frame: Timing | None = Field(default=None, description="picture in memory to the frame's bytes; bundles only")
    of_peak: float | None = Field(default=None, description="share of the machine's peak; null where it is not known")


class Row(_Frozen):
    """One encoder."""

    name: str
    runtime: str | None = None
    precision: Precision | None = None
    status: Status = "passed"
    reason: str | None = Field(default=None, description="why it did not pass, or what is not known of it")
    artefact_bytes: int | None = None
    network_bytes: int | None = Field(default=None, description="of them without codebooks; null where not known")
    memory: Trial | None = Field(default=None, description="from a fresh process on one thread")
    fell_back: dict[str, int] | None = Field(default=None, description="operators outside the delegate or in float")
    picture_bytes: float | None = Field(default=None, description="mean size of a picture, of picture codecs")
    runs: tuple[Run, ...] = ()


class Peak(_Frozen):
    """What the machine can do, in 10^9 operations a second; null where it was not measured."""

    threads: int
    fp32: float | None
    int8: float | None


class EncodeReport(_Frozen):
    """All encoders of one run."""

    model: str
    rounds: int
    pictures: int
    student_macs: int = Field(description="multiply-accumulates for a picture")
    teacher_macs: int
    peaks: tuple[Peak, ...]
    encoders: tuple[Row, ...]
    skipped: dict[str, str] = Field(description="what was not measured, and why")

    @property
    def passed(self) -> bool:
        return all(row.status == "passed" for row in self.encoders)


def encode_table(report: EncodeReport) -> Group:
    """What every encoder is, and for each number of threads how fast it is."""
    about = Table("encoder", "", "run by", title=f"{report.model}: encoders")
    for heading in ("artefact", "memory", "of it loaded"):
        about.add_column(heading, justify="right")
    for row in report.encoders:
        colour = "green" if row.status == "passed" else "red"
        size = "-" if row.artefact_bytes is None else f"{row.artefact_bytes / 1e6:.1f} MB"
        if row.network_bytes is not None:
            size += f" ({row.network_bytes / 1e6:.1f} MB without codebooks)"
        memory, loaded = "-", "-"
        if row.memory is not None:
            memory = f"{row.memory.peak_mib:.0f} MiB"
            loaded = f"{row.memory.peak_mib - row.memory.before_mib:.0f} MiB"
        runtime = escape((row.runtime or "-").split(" (")[0])
        about.add_row(escape(row.name), f"[{colour}]{row.status}[/{colour}]", runtime, size, memory, loaded)
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
    """How many times faster a run is than a network in torch on as many threads."""
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
            kinds = ", ".join(f"{count} {kind}" for kind, count in row.fell_back.items()) or "none"
            what = "operators in float" if row.name.startswith("onnx") else "operators outside the delegate"
            lines.append(f"{row.name}: {what}: {kinds}")
        elif row.name.startswith("coreml") and row.runtime is not None:
            lines.append(f"{row.name}: run by {row.runtime}; it has no delegate that says what falls back")
        if row.picture_bytes is not None:
            lines.append(f"{row.name}: {row.picture_bytes:.0f} bytes a picture; {row.runtime}")
        if row.reason is not None:
            lines.append(f"{row.name}: {row.status}: {row.reason}")
    return lines + [f"not measured: {name}: {why}" for name, why in report.skipped.items()]
