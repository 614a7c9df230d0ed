"""`edge-stscq send`: a stream file to a server."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer


def send(
    stream: Annotated[Path, typer.Argument(help="File of frames, made by `encode` or `capture`.")],
    url: Annotated[str, typer.Option(help="Address of the server.")] = "http://127.0.0.1:8377",
    device: Annotated[str, typer.Option(help="Name of this device; faces are called <device>-<number>.")] = "device",
    start_sequence: Annotated[int, typer.Option(min=0, help="Number of the first face.")] = 0,
    batch: Annotated[int, typer.Option(min=1, max=1024, help="Most frames in one request.")] = 64,
    attempts: Annotated[int, typer.Option(min=1, help="Tries for each request before giving up.")] = 6,
    token: Annotated[
        str | None, typer.Option(envvar="EDGE_STSCQ_TOKEN", help="Bearer token, if the server asks for one.")
    ] = None,
    cert: Annotated[Path | None, typer.Option(help="Mutual TLS: PEM certificate of this device.")] = None,
    key: Annotated[Path | None, typer.Option(help="PEM key of the certificate, without a password.")] = None,
    ca: Annotated[
        Path | None, typer.Option(help="PEM authorities that the server's certificate is checked against.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counters as one JSON object.")] = False,
) -> None:
    """Send every frame of a stream; what the server already has is skipped there, so sending again is safe."""
    from dataclasses import asdict

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from edge_stscq._tls import client_context
    from edge_stscq.client.sender import Sender, SendReport
    from edge_stscq.stream.frame import read_stream, split_stream

    data = read_stream(stream)
    total = len(split_stream(data)[1])
    tls = client_context(cert, key, ca)
    columns = (TextColumn("sending"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[counters]}"))
    console = Console(stderr=True)
    quiet = as_json or not sys.stderr.isatty()
    with (
        Progress(*columns, console=console, disable=quiet) as progress,
        Sender(url, device, token=token, batch=batch, attempts=attempts, tls=tls) as sender,
    ):
        bar = progress.add_task("send", total=total, counters="")

        def show(report: SendReport) -> None:
            progress.update(bar, completed=report.frames, counters=_counters(report))

        report = sender.send_stream(data, start_sequence, show)
    if as_json:
        typer.echo(json.dumps({"url": url, "device": device, "first": start_sequence, **asdict(report)}))
    else:
        typer.echo(f"{report.frames} frames acknowledged: {_counters(report)}")


def _counters(report: object) -> str:
    from edge_stscq.client.sender import SendReport

    assert isinstance(report, SendReport)
    return (
        f"{report.stored} stored, {report.extended} extended, {report.duplicate} duplicate; "
        f"{report.bytes:,} bytes in {report.requests} requests, {report.retries} retries"
    )
