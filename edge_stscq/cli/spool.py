"""`edge-stscq spool`: faces that wait on the device for a server."""

import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_stscq.cli.command import Command, with_verbosity
from edge_stscq.cli.options import Ca, Cert, Key, Token, TokenFile, Url, connection
from edge_stscq.cli.ui import count, progress_console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_stscq.client.drain import DrainReport
    from edge_stscq.client.spool import Refusal

spool = typer.Typer(help="Faces that wait on the device for a server.", no_args_is_help=True)

SpoolFile = Annotated[Path, typer.Argument(metavar="FILE", help="Spool, made by `capture --spool`.")]

Seal = Annotated[
    str | None,
    typer.Option(
        envvar="EDGE_STSCQ_SPOOL_SEAL", metavar="SOURCE",
        help="Seal the spool with this device's secret: file:PATH, command:PROGRAM or keyring:SERVICE/USER.",
    ),
]  # fmt: skip


def spool_secret(source: str | None) -> bytes | None:
    """Secret of a sealed spool, None if no source is given."""
    if source is None:
        return None
    from edge_stscq._secrets import read_secret

    return read_secret(source)


@spool.command("status", cls=Command)
@with_verbosity
def status(
    file: SpoolFile,
    seal: Seal = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counters as one JSON object.")] = False,
) -> None:
    """Show what waits, and what became of all faces so far."""
    from dataclasses import asdict
    from datetime import datetime

    from rich.console import Console
    from rich.table import Table

    from edge_stscq.client.spool import Spool

    with Spool(file, secret=spool_secret(seal)) as opened:
        state, refusals = opened.status(), opened.refusals()
    if as_json:
        typer.echo(json.dumps({"spool": str(file), **asdict(state)}))
        return
    table = Table("faces", "", title=f"{file}, device {state.device}", title_justify="left")
    table.columns[1].justify = "right"
    oldest = "" if state.oldest is None else f", the oldest since {datetime.fromtimestamp(state.oldest):%Y-%m-%d %H:%M}"
    rows = {
        f"waiting{oldest}": state.waiting,
        "  with their basic layer unsent": state.basic_waiting,
        "  being sent": state.leased,
        "  refused by the server and set aside": state.refused,
        "taken since the spool was made": state.taken,
        "delivered": state.delivered,
        "thinned for want of room": state.thinned,
        "dropped for want of room": state.dropped,
        "purged": state.purged,
        "damaged frames removed": state.damaged,
    }
    for name, number in rows.items():
        table.add_row(name, f"{number:,}")
    table.caption = (
        f"{state.bytes:,} of {state.max_bytes:,} bytes; stream {state.stream}, the next number is {state.next}"
    )
    Console().print(table)
    for line in _reasons(refusals):
        typer.echo(line)
    if refusals:
        typer.echo(f"next: edge-stscq spool retry {file}, or spool drop {file}")


@spool.command("drain", cls=Command)
@with_verbosity
def drain(
    file: SpoolFile,
    seal: Seal = None,
    url: Url = "http://127.0.0.1:8377",
    token: Token = None,
    token_file: TokenFile = None,
    cert: Cert = None,
    key: Key = None,
    ca: Ca = None,
    budget: Annotated[
        str | None,
        typer.Option(help="Most bytes on the link, e.g. 2kB/min, 500B/s, 1MB/h; headers count, TLS does not."),
    ] = None,
    follow: Annotated[bool, typer.Option(help="Go on when the spool is empty or the server away.")] = False,
    whole: Annotated[bool, typer.Option(help="Each face at once, instead of the basic layers of all first.")] = False,
    batch: Annotated[int, typer.Option(min=1, max=1024, help="Most faces in one request.")] = 64,
    attempts: Annotated[int, typer.Option(min=1, help="Tries for each request before giving up.")] = 6,
    lease: Annotated[
        float, typer.Option(min=1, max=3600, help="Seconds after which others may send what a dead process took.")
    ] = 60,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counters as one JSON object.")] = False,
) -> None:
    """Send what waits and forget it once the server has it. Exit code 1: stopped by Ctrl-C with faces still waiting."""
    from dataclasses import asdict

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from edge_stscq.client.byte_budget import ByteLimiter, parse_budget
    from edge_stscq.client.drain import Drain, DrainReport
    from edge_stscq.client.sender import Sender
    from edge_stscq.client.spool import Spool
    from edge_stscq.errors import EXIT_CHECK_FAILED, EdgeError

    bearer, tls = connection(token, token_file, cert, key, ca)
    bucket = None if budget is None else ByteLimiter(parse_budget(budget))
    columns = (TextColumn("sending"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[counters]}"))
    stopped, console = False, progress_console()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    with (
        Progress(*columns, console=console, disable=as_json or console.quiet or not sys.stderr.isatty()) as progress,
        Spool(file, secret=spool_secret(seal)) as opened,
        Sender(url, opened.device, token=bearer, batch=batch, attempts=attempts, tls=tls) as sender,
    ):
        bar = progress.add_task("send", total=opened.waiting, counters="")

        def show(report: DrainReport) -> None:
            total = report.faces + opened.waiting if follow else None
            progress.update(bar, total=total, completed=report.faces, counters=_counters(report))

        run = Drain(opened, sender, bucket, batch=batch, full_frames_only=whole, lease=lease)
        try:
            run.run(follow, show)
        except KeyboardInterrupt:
            stopped = True
        finally:
            signal.signal(signal.SIGTERM, before)
        waiting = opened.waiting
    if as_json:
        typer.echo(json.dumps({"url": url, "device": opened.device, "waiting": waiting, **asdict(run.report)}))
    else:
        typer.echo(f"{count(run.report.faces, 'face')} delivered, {waiting} waiting: {_counters(run.report)}")
    if stopped and waiting and not follow:
        raise typer.Exit(EXIT_CHECK_FAILED)
    if run.report.refused:
        faces = count(run.report.refused, "face")
        raise EdgeError(f"the server refused {faces}, set aside in {file}; `edge-stscq spool status {file}` says why")


@spool.command("retry", cls=Command)
@with_verbosity
def retry(
    file: SpoolFile,
    seal: Seal = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the count as one JSON object.")] = False,
) -> None:
    """Let faces that a server refused be sent again."""
    from edge_stscq.client.spool import Spool

    with Spool(file, secret=spool_secret(seal)) as opened:
        freed = opened.retry()
        waiting = opened.waiting
    if as_json:
        typer.echo(json.dumps({"spool": str(file), "retried": freed, "waiting": waiting}))
    else:
        typer.echo(f"{count(freed, 'face')} to be sent again, {waiting} waiting\nnext: edge-stscq spool drain {file}")


@spool.command("drop", cls=Command)
@with_verbosity
def drop(
    file: SpoolFile,
    seal: Seal = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the count as one JSON object.")] = False,
) -> None:
    """Remove faces that a server refused, and their bytes from the disk."""
    from edge_stscq.client.spool import Spool
    from edge_stscq.errors import EdgeError

    with Spool(file, secret=spool_secret(seal)) as opened:
        refused = count(opened.status().refused, "refused face")
        if not yes:
            if not sys.stdin.isatty():
                raise EdgeError(f"{refused} in {file}; give --yes to remove them unsent")
            typer.confirm(f"Remove {refused} in {file}, unsent?", abort=True)
        removed = opened.drop()
        waiting = opened.waiting
    if as_json:
        typer.echo(json.dumps({"spool": str(file), "dropped": removed, "waiting": waiting}))
    else:
        typer.echo(f"{count(removed, 'face')} removed, {waiting} waiting")


@spool.command("purge", cls=Command)
@with_verbosity
def purge(
    file: SpoolFile,
    seal: Seal = None,
    below: Annotated[int | None, typer.Option(min=0, help="Only faces with smaller numbers.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the count as one JSON object.")] = False,
) -> None:
    """Remove faces that were not sent, and their bytes from the disk. Numbers are not used again."""
    from edge_stscq.client.spool import Spool
    from edge_stscq.errors import EdgeError

    with Spool(file, secret=spool_secret(seal)) as opened:
        if not yes:
            if not sys.stdin.isatty():
                raise EdgeError(f"{count(opened.waiting, 'face')} waiting in {file}; give --yes to remove them unsent")
            typer.confirm(f"Remove {count(opened.waiting, 'face')} waiting in {file}, unsent?", abort=True)
        removed = opened.purge(below)
        waiting = opened.waiting
    if as_json:
        typer.echo(json.dumps({"spool": str(file), "purged": removed, "waiting": waiting}))
    else:
        typer.echo(f"{count(removed, 'face')} removed, {waiting} waiting")


def _reasons(refusals: "Sequence[Refusal]", most: int = 5) -> list[str]:
    """A line for each kind of refusal, with the numbers of the first faces."""
    numbers: dict[tuple[str, str], list[int]] = {}
    for one in refusals:
        numbers.setdefault((one.code, one.reason), []).append(one.number)
    lines = []
    for (code, reason), found in list(numbers.items())[:most]:
        first = ", ".join(map(str, found[:most])) + (", ..." if len(found) > most else "")
        lines.append(f"{code}: {count(len(found), 'face')} ({first}): {reason}")
    return lines


def _counters(report: "DrainReport") -> str:
    refused = f"{report.refused} refused, " if report.refused else ""
    return refused + (
        f"{report.stored} stored, {report.extended} extended, {report.duplicate} duplicate; "
        f"{report.bytes:,} bytes in {count(report.requests, 'request')}, {report.retries} retried"
    )
