"""The `edge-stscq` command: one thin file a command group.

The files import nothing heavy at the top, so that `--help` is instant and a camera without torch has every command.
What a command needs is imported when it runs, and a missing extra is named.
"""

import sys
import traceback
from importlib import import_module

import typer

from edge_stscq import __version__
from edge_stscq.cli.command import Command, Group, with_verbosity
from edge_stscq.cli.ui import Verbosity, verbosity
from edge_stscq.errors import EXIT_BAD_INPUT, EXIT_INTERRUPTED, EdgeError

# Command, file and panel of the help page, in the order a user meets them.
_COMMANDS = (
    ("demo", "demo", "Start here"),
    ("pull", "pull", "Start here"),
    ("doctor", "doctor", "Start here"),
    ("capture", "capture", "On the device"),
    ("align", "align", "On the device"),
    ("encode", "encode", "On the device"),
    ("selftest", "selftest", "On the device"),
    ("send", "send", "On the device"),
    ("spool", "spool", "On the device"),
    ("camera", "camera", "On the device"),
    ("serve", "serve", "On the server"),
    ("token", "token", "On the server"),
    ("store", "store_keys", "On the server"),
    ("person", "person", "On the server"),
    ("matcher", "matcher", "On the server"),
    ("decode", "decode", "On the server"),
    ("train", "train", "Make a model"),
    ("distill", "train", "Make a model"),
    ("finetune", "train", "Make a model"),
    ("quantize", "quantize", "Make a model"),
    ("export", "export", "Make a model"),
    ("sign", "sign", "Make a model"),
    ("parity", "parity", "Judge"),
    ("evaluate", "evaluate", "Judge"),
    ("thresholds", "thresholds", "Judge"),
    ("bench", "bench", "Judge"),
)


def _version(show: bool) -> None:
    if show:
        typer.echo(f"edge-stscq {__version__}")
        raise typer.Exit


def _app() -> typer.Typer:
    app = typer.Typer(
        name="edge-stscq", cls=Group, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )  # fmt: skip

    @app.callback(help="A face as a few dozen bytes: from the camera to the server.")
    def options(
        version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
    ) -> None:
        pass

    for name, file, panel in _COMMANDS:
        command = getattr(import_module(f"edge_stscq.cli.{file}"), name)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, cls=Group, rich_help_panel=panel)
        else:
            app.command(name, cls=Command, rich_help_panel=panel)(with_verbosity(command))
    return app


def main() -> None:
    """Run the command line. Bad input prints one line on stderr and exits with 2."""
    try:
        _app()()
    except EdgeError as error:
        if verbosity() == Verbosity.VERBOSE:
            traceback.print_exception(error)
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(EXIT_BAD_INPUT) from None
    except KeyboardInterrupt:  # before a command was ready to end in its own way
        raise SystemExit(EXIT_INTERRUPTED) from None
