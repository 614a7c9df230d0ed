"""`edge-stscq send`: a stream file to a server."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from edge_stscq.cli.options import Ca, Cert, Key, Token, TokenFile, Url, connection
from edge_stscq.cli.ui import count, progress_console


def send(
    stream: Annotated[Path, typer.Argument(help="File of frames, made by `encode` or `capture`.")],
    url: Url = "http://127.0.0.1:8377",
    device: Annotated[str, typer.Option(help="Name of this device.")] = "device",
    start_sequence: Annotated[
        int, typer.Option(min=0, help="Number of the first face of a file that has none, of wire version 1.")
    ] = 0,
    batch: Annotated[int, typer.Option(min=1, max=1024, help="Most frames in one request.")] = 64,
    attempts: Annotated[int, typer.Option(min=1, help="Tries for each request before giving up.")] = 6,
    token: Token = None,
    token_file: TokenFile = None,
    cert: Cert = None,
    key: Key = None,
    ca: Ca = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counters as one JSON object.")] = False,
) -> None:
    """Send every frame of a stream; what the server already has is skipped there, so sending again is safe."""
    from dataclasses import asdict

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from edge_stscq.client.sender import Sender, SendReport
    from edge_stscq.errors import EdgeError
    from edge_stscq.stream.frame import read_stream, split_stream
    from edge_stscq.stream.wire import check_version, read_frames

    data = read_stream(stream)
    total = len(split_stream(data)[1]) if check_version(data) == 1 else sum(1 for _ in read_frames(data))
    bearer, tls = connection(token, token_file, cert, key, ca)
    columns = (TextColumn("sending"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[counters]}"))
    console = progress_console()
    quiet = as_json or console.quiet or not sys.stderr.isatty()
    with (
        Progress(*columns, console=console, disable=quiet) as progress,
        Sender(url, device, token=bearer, batch=batch, attempts=attempts, tls=tls) as sender,
    ):
        bar = progress.add_task("send", total=total, counters="")

        def show(report: SendReport) -> None:
            progress.update(bar, completed=report.frames, counters=_counters(report))

        report = sender.send_stream(data, start_sequence, show)
    if as_json:
        refused = [one.model_dump() for one in report.refused]
        typer.echo(
            json.dumps({"url": url, "device": device, "first": start_sequence, **asdict(report), "refused": refused})
        )
    else:
        typer.echo(f"{count(report.frames, 'frame')} acknowledged: {_counters(report)}")
    if report.refused:
        first = report.refused[0]
        what = f"number {first.number}: {first.code}, {first.reason}"
        raise EdgeError(f"the server refused {count(len(report.refused), 'frame')}; {what}")


def _counters(report: object) -> str:
    from edge_stscq.client.sender import SendReport

    assert isinstance(report, SendReport)
    return (
        f"{report.stored} stored, {report.extended} extended, {report.duplicate} duplicate; "
        f"{report.bytes:,} bytes in {count(report.requests, 'request')}, {report.retries} retried"
    )
