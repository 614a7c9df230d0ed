"""Capacity model of a million cameras, from measured figures and from assumptions that are named as such.

    python -m benchmarks.docs.capacity_model     prints the tables of docs/scale.md

Nothing is measured here. A row says where its number is from: a file in benchmarks/results, the code, an assumption,
or the rows above it, whose letters its formula names.
"""

import json
import math
from dataclasses import asdict, dataclass

import typer

from benchmarks.record import RESULTS
from edge_stscq.config.codec import EMBEDDING
from edge_stscq.stream.envelope import Clock, Source, WireFrame, stream_id
from edge_stscq.stream.frame import FRAME_OVERHEAD
from edge_stscq.stream.wire import frame_bound, write_stream

DAY = 86_400
LAYER = "middle"
"""Layers that cameras send: basic and middle, the prefix at which matching accuracy stops growing."""


@dataclass(frozen=True, slots=True)
class Assumptions:
    """Figures that were not measured; change them and run the script again. Prices are in US dollars.

    Attributes:
        visits_per_day: of one camera.
        peak: busiest hour over the mean of the day.
        frames_per_request: how many frames a camera sends at once.
        request_bytes: HTTP headers and TLS of one request and its answer.
        looked_at: share of the faces that somebody has decoded; the others are matched in the compressed domain.
        ingest_rate: frames a second that one ingress process checks, stores and acknowledges.
        gpu_rate: faces a second that one GPU decodes.
        load: share of its capacity at which a machine is run.
        row_bytes: of one face in PostgreSQL beside its frame: row header, columns and two index entries.
        retention_days: until a face is deleted.
        index_gib: memory of one machine that holds a part of the match index.
    """

    cameras: int = 1_000_000
    visits_per_day: float = 200
    peak: float = 4
    frames_per_request: int = 16
    request_bytes: int = 600
    looked_at: float = 0.05
    ingest_rate: float = 500
    gpu_rate: float = 2_000
    load: float = 0.6
    row_bytes: int = 200
    retention_days: int = 30
    index_gib: int = 256
    cpu_core_hour: float = 0.04
    gpu_hour: float = 1.5
    gib_month_disk: float = 0.1
    gib_month_memory: float = 3.0


@dataclass(frozen=True, slots=True)
class Measured:
    """Figures of the repository.

    Attributes:
        frame_bytes: mean frame on the wire, payload and overhead.
        decode_ms: one face in the best batch, one CPU thread.
        faces_per_visit: that a camera sends.
    """

    frame_bytes: float
    decode_ms: float
    faces_per_visit: float


@dataclass(frozen=True, slots=True)
class Row:
    letter: str
    what: str
    value: str
    source: str


def measured() -> Measured:
    """Read benchmarks/results."""
    rate, encode = (json.loads((RESULTS / f"{name}.json").read_text())["results"] for name in ("rate", "encode"))
    frame = next(point["container_bytes"] for point in rate["ours"]["points"] if point["setting"] == LAYER)
    frame += frame_bound(0) - FRAME_OVERHEAD  # as it is measured, a frame has neither time nor quality
    film = json.loads((RESULTS / "film.json").read_text())["results"]["runs"][0]
    decode_ms = min(batch["median_ms_per_face"] for batch in encode["decode"])
    return Measured(frame, decode_ms, film["faces_sent"] / film["visits"])


def file_bytes() -> int:
    """Bytes of a request's body beside its frames: one section of a device with a name of twelve letters."""
    key = bytes(16)
    source = Source(stream_id(key), "d" * 12, bytes(8), clock=Clock.SYNCHRONIZED)
    data = write_stream([WireFrame(source, 1_000_000, 1, b"", 1_790_000_000_000, quality=90)], key)
    return len(data) - (frame_bound(0) - 2)  # the first frame's time takes one byte


def needs(given: Assumptions, figures: Measured) -> list[Row]:
    """Every step from cameras to machines and money."""
    per_core = 1000 / figures.decode_ms
    faces_per_day = given.visits_per_day * figures.faces_per_visit
    day = given.cameras * faces_per_day
    mean = day / DAY
    top = mean * given.peak
    requests = top / given.frames_per_request
    wire = figures.frame_bytes + (file_bytes() + given.request_bytes) / given.frames_per_request
    ingest = math.ceil(top / (given.ingest_rate * given.load))
    decoded = top * given.looked_at
    cores = math.ceil(decoded / (per_core * given.load))
    gpus = math.ceil(decoded / (given.gpu_rate * given.load))
    row = figures.frame_bytes + given.row_bytes
    kept = day * given.retention_days
    store, index = kept * row / 2**30, kept * 2 * EMBEDDING / 2**30
    holders = math.ceil(index / given.index_gib)
    month = 730
    money = {
        "ingest": ingest * given.cpu_core_hour * month, "gpus": gpus * given.gpu_hour * month,
        "store": store * given.gib_month_disk, "index": index * given.gib_month_memory,
    }  # fmt: skip
    return [
        Row(
            "A", "faces a day", f"{day:,.0f}",
            f"assumption: cameras x visits_per_day; film.json: {figures.faces_per_visit:.2f} faces of a visit",
        ),  # fmt: skip
        Row("B", "frames a second, mean", f"{mean:,.0f}", "A / 86,400 s"),
        Row("C", "frames a second, busiest hour", f"{top:,.0f}", "B x peak"),
        Row("D", "requests a second, busiest hour", f"{requests:,.0f}", "C / frames_per_request"),
        Row(
            "E",
            "bytes of a frame",
            f"{figures.frame_bytes:.1f}",
            f"rate.json, {LAYER} layer with its overhead, time and quality",
        ),
        Row(
            "F", "bytes a face on the wire", f"{wire:.1f}", f"E + ({file_bytes()} + request_bytes) / frames_per_request"
        ),
        Row("G", "network in, busiest hour", f"{top * wire * 8 / 1e6:,.1f} Mbit/s", "C x F"),
        Row("H", "network of one camera a day", f"{faces_per_day * wire / 1e3:,.1f} kB", "A / cameras x F"),
        Row("I", "ingress processes", f"{ingest:,}", "C / (ingest_rate x load)"),
        Row("J", "faces to decode a second, busiest hour", f"{decoded:,.0f}", "C x looked_at"),
        Row(
            "K",
            "faces a second of one CPU core",
            f"{per_core:.1f}",
            "encode.json, decoder in its best batch, one thread",
        ),
        Row("L", "CPU cores that decode", f"{cores:,}", "J / (K x load)"),
        Row("M", "or GPUs that decode", f"{gpus:,}", "J / (gpu_rate x load); gpu_rate is not measured"),
        Row("N", "rows written a second, busiest hour", f"{top:,.0f}", "C"),
        Row("O", "transactions a second, busiest hour", f"{requests:,.0f}", "D: one commit a request"),
        Row("P", "store, written a day", f"{day * row / 2**30:,.1f} GiB", "A x (E + row_bytes)"),
        Row("Q", "store, kept", f"{store:,.0f} GiB", "P x retention_days"),
        Row("R", "match index, memory", f"{index:,.0f} GiB", f"A x retention_days x {EMBEDDING} float16"),
        Row("S", "machines that hold the index", f"{holders:,}", "R / index_gib"),
        Row("T", "ingress, a month", f"${money['ingest']:,.0f}", "I x cpu_core_hour x 730 h"),
        Row("U", "GPUs, a month", f"${money['gpus']:,.0f}", "M x gpu_hour x 730 h"),
        Row("V", "store, a month", f"${money['store']:,.0f}", "Q x gib_month_disk"),
        Row("W", "index, a month", f"${money['index']:,.0f}", "R x gib_month_memory"),
        Row(
            "X",
            "all of it, a camera and month",
            f"${sum(money.values()) / given.cameras:.4f}",
            "(T + U + V + W) / cameras",
        ),
    ]


def table(given: Assumptions, figures: Measured) -> str:
    """The tables of docs/scale.md, as Markdown."""
    assumed = [f"| `{name}` | {value:,} |" for name, value in asdict(given).items()]
    rows = [f"| {row.letter} | {row.what} | {row.value} | {row.source} |" for row in needs(given, figures)]
    return "\n".join(
        ["| assumption | value |", "|---|---|", *assumed, "", "| | what | value | from |", "|---|---|---|---|", *rows]
    )


if __name__ == "__main__":
    typer.echo(table(Assumptions(), measured()))
