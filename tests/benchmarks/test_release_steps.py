"""The steps of a release have the options that they are given, and are done once for the same weights."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer

from benchmarks.release import WEIGHTS, Step, digest, run, steps
from edge_stscq.cli import _app
from edge_stscq.errors import EdgeError

EVERY = list(steps(Path("models/new"), Path("bundles"), Path("data"), Path("models/old")))
COMMANDS = [words for step in EVERY for words in step.commands]


def command_of(module: str) -> Any:
    found = _app() if module == "edge_stscq" else vars(import_module(command_module(module))).get("app")
    if found is None:
        found = typer.Typer()
        found.command()(import_module(module).main)
    return typer.main.get_command(found)


def command_module(module: str) -> str:
    return f"{module}.__main__" if hasattr(import_module(module), "__path__") else module


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words[1:4]))
def test_step_is_a_command_with_these_options(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_STSCQ_DATA", "data")
    monkeypatch.chdir(tmp_path)
    for folder in (word for word in words if word.startswith(("models/", "bundles/", "data/"))):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)  # options look for them
    dash, module, *given = words
    assert dash == "-m"
    command = command_of(module)
    while subcommands := getattr(command, "commands", None):
        command, given = subcommands[given[0]], given[1:]
    context = command.make_context(module, list(given))
    assert not context.args


def test_step_is_done_once(tmp_path: Path) -> None:
    made = tmp_path / "made"
    step = Step("one", "", (("-c", f"open({str(made)!r}, 'a').write('x')"),))
    run(step, tmp_path, tmp_path)
    run(step, tmp_path, tmp_path)
    assert made.read_text() == "x"


def test_step_that_fails_is_not_done(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="two ended with exit code 3"):
        run(Step("two", "", (("-c", "raise SystemExit(3)"),)), tmp_path, tmp_path)
    assert not (tmp_path / "two").exists()


def test_new_weights_begin_anew(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="no whole model"):
        digest(tmp_path)
    for name in WEIGHTS:
        (tmp_path / f"{name}.safetensors").write_bytes(b"1")
    before = digest(tmp_path)
    (tmp_path / "decoder.safetensors").write_bytes(b"2")
    assert digest(tmp_path) != before
