"""Progress bars, notes and tables of the commands."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import TYPE_CHECKING

import typer

from edge_stscq._reporter import Advance, Reporter

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


class Verbosity(IntEnum):
    """Level of what is said beside results and errors."""

    QUIET = 0
    """Nothing."""
    NORMAL = 1
    """Progress and notes, on stderr."""
    VERBOSE = 2
    """The log of the program and of the libraries too, and the stack of an error."""


_level = Verbosity.NORMAL


def verbosity() -> Verbosity:
    return _level


def set_verbosity(level: Verbosity) -> None:
    """Set how much the commands of this process say."""
    global _level
    _level = level
    if level == Verbosity.VERBOSE:
        logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(name)s: %(message)s")


def note(text: str) -> None:
    """Say something on stderr that is neither the result nor an error."""
    if _level > Verbosity.QUIET:
        typer.echo(text, err=True)


def count(number: int, noun: str) -> str:
    """A number and its noun: "1 face", "2,000 faces"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def progress_console() -> "Console":
    """Console on stderr for what comes and goes; it shows nothing with `--quiet`."""
    from rich.console import Console

    return Console(stderr=True, quiet=_level == Verbosity.QUIET)


@contextmanager
def progress_bar(description: str, total: int | None, bytes_: bool = False) -> Iterator[Callable[[int], None]]:
    """Yield how to advance a bar on stderr. It disappears when done; nothing is drawn where stderr is no terminal."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = progress_console()
    done = DownloadColumn() if bytes_ else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), done, TimeElapsedColumn(), "left", TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=console.quiet or not console.is_terminal) as bar:
        task = bar.add_task(description, total=total)
        yield lambda done: bar.advance(task, done)


class _RichReporter:
    """Reporter that draws a bar for each task, from the first one on: what fails before is one line."""

    def __init__(self, progress: "Progress") -> None:
        self._progress = progress

    def task(self, name: str, total: int, done: int = 0) -> Advance:
        self._progress.start()
        bar = self._progress.add_task(name, total=total, completed=done, info="")

        def advance(steps: int = 1, info: str | None = None) -> None:
            if info is None:
                self._progress.advance(bar, steps)
            else:
                self._progress.update(bar, advance=steps, info=info)

        return advance

    def say(self, line: str) -> None:
        self._progress.console.print(line)


@contextmanager
def training_bars(console: "Console") -> Iterator[Reporter]:
    """Yield a reporter whose bars say the time left and what a task tells of itself; they stay when done."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[info]}", markup=False),
    )  # fmt: skip
    progress = Progress(*columns, console=console, refresh_per_second=2)
    try:
        yield _RichReporter(progress)
    finally:
        if progress.live.is_started:
            progress.stop()
