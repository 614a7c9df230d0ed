"""Tables and lines of `edge-stscq capture`: counters while it runs and at its end, and every measure of a face."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from edge_stscq.cli.ui import note
from edge_stscq.errors import EdgeError

if TYPE_CHECKING:
    from rich.table import Table

    from demo_camera.loop import CaptureLoop
    from demo_camera.sources import Source
    from edge_stscq._reporter import Advance
    from edge_stscq.device.detect import Detector
    from edge_stscq.device.quality import Judgement, QualityGate

STDOUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
"""Paths of a stream that goes to where results are printed."""


class Notes:
    """Reporter whose lines are notes on stderr."""

    def task(self, name: str, total: int, done: int = 0) -> "Advance":
        from edge_stscq._reporter import SILENCE

        return SILENCE.task(name, total, done)

    def say(self, line: str) -> None:
        note(line)


def counters_table(loop: "CaptureLoop", source: "Source") -> "Table":
    """The counters so far."""
    from rich.markup import escape
    from rich.table import Table

    counters, seen = loop.counters, source.counters
    table = Table(
        "pictures", "visits", "faces", "refused", "payload bytes", "wire bytes", caption=escape(loop.latest)
    )
    told = ("damaged", seen.damaged), ("passed over", seen.skipped), ("dropped", seen.dropped)
    more = [f"{number} {what}" for what, number in (*told, ("reconnected", seen.reconnects)) if number]
    going = [f"{loop.open_tracks} going on"] if loop.open_tracks else []
    rejected = [f"{number} {reason}" for reason, number in counters.rejected.most_common()]
    table.add_row(
        "\n".join([str(counters.pictures), *more]), "\n".join([str(counters.tracks), *going]), str(counters.faces),
        "\n".join(rejected) or "0", _bytes(counters.payload_bytes, counters.faces),
        _bytes(counters.wire_bytes, counters.faces),
    )  # fmt: skip
    return table


def show_end(table: "Table | None", report: Mapping[str, Any], model: str, output: Path | None) -> None:
    """Print the counters, unless they were shown already, and what can be done with what was kept."""
    from rich.console import Console

    spool, aside = report["spool"], str(output) in STDOUT
    if table is not None:
        Console(stderr=aside).print(table)
    lines = []
    if report["repeated"]:
        lines.append(f"{spool}: {report['repeated']} of these faces were there before and are not kept twice")
    if spool is not None:
        lines.append(f"{spool}: send them with: edge-stscq spool drain {spool} --url URL")
    if output is not None and not report["faces"]:
        lines.append(f"{output}: not written, since no face was captured")
    elif output is not None and output.is_file():
        lines.append(f"{output}: look at it with: edge-stscq decode {output} --model {model} -o faces")
    for line in lines:
        typer.echo(line, err=aside)


def explain_faces(
    source: "Source", detector: "Detector", gate: "QualityGate", limit: int | None, as_json: bool
) -> None:
    """Print every measure of every face of a source, with its limit.

    Args:
        limit: most faces.

    Raises:
        EdgeError: the source fails, or is a camera and has no limit.
    """
    if source.live and limit is None:
        raise EdgeError(f"{source.name} goes on for ever; say with --limit how many faces are to be explained")
    shown: list[dict[str, Any]] = []
    found = 0
    for picture, judgement in _judged(source, detector, gate):
        if judgement is None:
            if not as_json:
                typer.echo(f"{picture}: no face found")
            continue
        found += 1
        if as_json:
            shown.append(_explained(picture, judgement))
        else:
            _show(picture, judgement)
        if found == limit:
            break
    source.close()
    if as_json:
        typer.echo(json.dumps({"source": source.name, **source.counters.by_name(), "faces": shown}))


def _judged(
    source: "Source", detector: "Detector", gate: "QualityGate"
) -> "Iterator[tuple[str, Judgement | None]]":  # fmt: skip
    for picture in source.pictures():
        faces = detector.faces(picture.image)
        if not faces:
            yield picture.name, None
        for face in faces:
            yield picture.name, gate.judge(picture.image, face, explain=True)


def _explained(picture: str, judgement: "Judgement") -> dict[str, Any]:
    refusal = judgement.refusal
    return {
        "picture": picture, "box": [round(side, 1) for side in judgement.face.box], "score": judgement.score,
        "refused": None if refusal is None else refusal.reason,
        "verdicts": [
            {"name": one.name, "value": one.value, "limit": one.limit, "passed": one.passed, "reason": one.reason}
            for one in judgement.verdicts
        ],
    }  # fmt: skip


def _show(picture: str, judgement: "Judgement") -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from edge_stscq.device.quality.verdict import MEASURES

    x, y, width, height = judgement.face.box
    refusal = "may pass" if judgement.refusal is None else f"refused: {judgement.refusal}"
    table = Table(
        "measure", "value", "limit", "verdict",
        title=escape(f"{picture}: face of {width:.0f} x {height:.0f} at {x:.0f}, {y:.0f}"),
        caption=escape(f"{refusal}; quality {judgement.score} of 100"),
    )  # fmt: skip
    for one in judgement.verdicts:
        limit = "off" if one.limit is None else f"{MEASURES[one.name].bound} {one.limit:g}"
        table.add_row(one.name, f"{one.value:.3g}", limit, "passes" if one.passed else one.reason)
    Console().print(table)


def _bytes(number: int, faces: int) -> str:
    return f"{number:,}\n{number / faces:.1f} a face" if faces else str(number)
