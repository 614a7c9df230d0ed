"""`edge-stscq camera`: many cameras in one process."""

import json
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_stscq.cli.command import Command, with_verbosity
from edge_stscq.cli.options import folder
from edge_stscq.cli.ui import count, note, progress_console
from edge_stscq.errors import EXIT_CHECK_FAILED, require

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from demo_camera.service.runner import Service

camera = typer.Typer(help="Many cameras in one process, as a file describes them.", no_args_is_help=True)

SettingsFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="TOML file with the cameras; deploy/camera/cameras.toml is an example.")
]
_EXTRA = ("pydantic_settings", "prometheus_client", "paho.mqtt")


@camera.command("run", cls=Command)
@with_verbosity
def run(
    file: SettingsFile,
    as_json: Annotated[bool, typer.Option("--json", help="Print each event as one JSON object a line.")] = False,
) -> None:
    """Capture from all cameras until SIGTERM or Ctrl-C. Exit code 1: this device did not pass its self-test."""
    _need()
    from rich.live import Live

    from demo_camera.service.build import real_parts
    from demo_camera.service.loading import load_settings
    from demo_camera.service.runner import Service
    from demo_camera.stopping import StopSignals
    from edge_stscq.bundle import open_bundle

    settings = load_settings(file)
    bundle = open_bundle(folder(settings.bundle), settings.trusted_key)
    if not bundle.signed:
        note(f"{settings.bundle} is not signed; trusted_key = FILE asks for a signature")
    console = progress_console()
    say = _JsonLines() if as_json else _Lines(console)
    service = Service(settings, real_parts(settings, bundle, say), say)

    with StopSignals(service.stop), ExitStack() as stack:
        if console.is_terminal and not console.quiet and not as_json:
            stack.enter_context(Live(console=console, get_renderable=_View(service).draw, refresh_per_second=4))
        passed = service.run()
    if not passed:
        raise typer.Exit(EXIT_CHECK_FAILED)


@camera.command("check", cls=Command)
@with_verbosity
def check(
    file: SettingsFile,
    as_json: Annotated[bool, typer.Option("--json", help="Print the problems as one JSON object.")] = False,
) -> None:
    """Say everything that is wrong with a file, without opening a camera. Exit code 1: something is."""
    _need()
    from demo_camera.service.loading import WrongSettingsError, load_settings
    from edge_stscq.bundle import open_bundle
    from edge_stscq.errors import EdgeError

    problems, cameras = [], 0
    try:
        settings = load_settings(file)
        cameras = len(settings.camera)
        config = open_bundle(folder(settings.bundle), settings.trusted_key).config
    except WrongSettingsError as error:
        problems = error.problems
    except EdgeError as error:
        if not cameras:
            raise
        problems = [f"bundle: {error}"]
    else:
        for one in settings.camera:
            if one.layers is not None and one.layers > len(config.layers):
                problems.append(
                    f"[[camera]] {one.name}, layers: the model has {len(config.layers)}; give so many or less"
                )
    if as_json:
        typer.echo(json.dumps({"file": str(file), "cameras": cameras, "problems": problems}))
    else:
        for problem in problems:
            typer.echo(problem)
        if not problems:
            typer.echo(f"{file}: {count(cameras, 'camera')}, nothing wrong")
    if problems:
        raise typer.Exit(EXIT_CHECK_FAILED)


@camera.command("schema", cls=Command)
@with_verbosity
def schema() -> None:
    """Print the JSON schema of the file."""
    _need()
    from demo_camera.service.settings import Settings

    typer.echo(json.dumps(Settings.model_json_schema(), indent=2))


def _need() -> None:
    for module in _EXTRA:
        require(module, "camera")


class _JsonLines:
    """Events as lines of JSON on stdout."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __call__(self, event: str, **fields: object) -> None:
        with self._lock:
            print(json.dumps({"event": event, "time": round(time.time(), 3), **fields}), flush=True)


class _Lines:
    """Events as lines for people on stderr; visits are shown by what they leave, the faces."""

    def __init__(self, console: "Console") -> None:
        self._console = console

    def __call__(self, event: str, **fields: Any) -> None:
        match event:
            case "trouble" | "over" | "note":
                line = f"{fields['place']}: {fields['text']}"
            case "face":
                line = f"camera {fields['camera']}: a face of {fields['bytes']} bytes"
            case "listening":
                line = f"metrics and health at {fields['address']}"
            case "end":
                line = f"ended: {count(fields['faces'], 'face')} captured, {fields['waiting']:,} waiting"
            case _:
                return
        self._console.print(line, soft_wrap=True, highlight=False, markup=False)


class _View:
    """Table of the cameras, drawn again and again."""

    def __init__(self, service: "Service") -> None:
        self._service = service

    def draw(self) -> "Table":
        from rich.markup import escape
        from rich.table import Table

        table = Table("camera", "state", "pictures/s", "faces", "refused", "waiting")
        for one in self._service.status():
            state = str(one.state) if one.silence < 10 or one.state == "ended" else f"{one.state}, {one.silence:.0f} s"
            refused = ", ".join(f"{number} {reason}" for reason, number in one.refused.items())
            waiting = f"{one.waiting:,}" + (f" + {one.unkept:,} unwritten" if one.unkept else "")
            table.add_row(escape(one.name), state, f"{one.rate:.1f}", f"{one.faces:,}", escape(refused), waiting)
        return table
