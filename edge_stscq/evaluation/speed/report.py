"""The report of `edge-stscq bench encode`: its fields and its table."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from edge_stscq.bundle.manifest import Precision
from edge_stscq.evaluation.speed.subprocess_run import SubprocessMeasurement

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
    memory: SubprocessMeasurement | None = Field(default=None, description="from a fresh process on one thread")
    fell_back: dict[str, int] | None = Field(default=None, description="operators outside the delegate or in float")
    picture_bytes: float | None = Field(default=None, description="mean size of a picture, of picture codecs")
    runs: tuple[Run, ...] = ()


class Peak(_Frozen):
    """Peak throughput in 10^9 operations a second; null where it was not measured."""

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
