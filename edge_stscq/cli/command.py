"""Commands and groups of the command line: `-h`, `--quiet`, `--verbose`, panels, and old names of options.

Help is plain text: nothing of it is cut, however narrow the terminal.
"""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from edge_stscq.cli.ui import Verbosity, set_verbosity
from edge_stscq.errors import EdgeError

DEPRECATED: dict[str, dict[str, str]] = {
    "capture": {"--send": "--url"},
    "serve": {"--device": "--accelerator"},
    "decode": {"--device": "--accelerator"},
    "evaluate": {"--device": "--accelerator"},
    **{name: {"--device": "--accelerator", "--out": "--output"} for name in ("train", "distill", "finetune")},
}
"""Old name of an option and the one that took its place, by command. The old ones work for one release and warn."""
_VERBOSITY = {
    "quiet": Annotated[bool, typer.Option("--quiet", "-q", help="Only results and errors.")],
    "verbose": Annotated[bool, typer.Option("--verbose", help="Also the log, and the stack of an error.")],
}


class Command(TyperCommand):
    """A command that knows the old names of its options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _renamed(self.name or "", args))


class Group(TyperGroup):
    """A group that shows its commands in panels, in the order they were added."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        panels: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                panel = getattr(command, "rich_help_panel", None)
                title = panel if isinstance(panel, str) else "Commands"
                panels.setdefault(title, []).append((name, command.get_short_help_str(10_000)))
        for title, rows in panels.items():
            with formatter.section(title):
                formatter.write_dl(rows)


def with_verbosity(function: Callable[..., None]) -> Callable[..., None]:
    """A command's function with the options `--quiet` and `--verbose`."""

    @wraps(function)
    def command(*args: Any, quiet: bool, verbose: bool, **kwargs: Any) -> None:
        if quiet and verbose:
            raise EdgeError("--quiet and --verbose ask for opposites; give one of them")
        set_verbosity(Verbosity.QUIET if quiet else Verbosity.VERBOSE if verbose else Verbosity.NORMAL)
        function(*args, **kwargs)

    signature = inspect.signature(function, eval_str=True)
    own = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)
        for name, annotation in _VERBOSITY.items()
    ]
    command.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *own])  # type: ignore[attr-defined]
    command.__annotations__ = {name: one.annotation for name, one in signature.parameters.items()} | _VERBOSITY
    return command


def _renamed(command: str, args: list[str]) -> list[str]:
    """Arguments with old names of options replaced, up to `--`; each is warned of."""
    old = DEPRECATED.get(command, {})
    end = args.index("--") if "--" in args else len(args)
    fresh = []
    for word in args[:end]:
        name, equals, value = word.partition("=")
        if name in old:
            typer.echo(f"warning: {name} is now called {old[name]}; the old name goes with the next release", err=True)
            word = old[name] + equals + value
        fresh.append(word)
    return fresh + args[end:]
