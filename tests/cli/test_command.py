"""Every command: short help, old names of options, quiet and verbose; and nothing cut in a narrow terminal."""

import contextlib
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from edge_stscq import cli
from edge_stscq.cli.command import DEPRECATED, Command, with_verbosity
from edge_stscq.cli.ui import Verbosity, count, note, set_verbosity, verbosity
from edge_stscq.errors import EXIT_INTERRUPTED, EdgeError


@pytest.fixture
def app():
    def capture(
        url: Annotated[str, typer.Option()] = "", words: Annotated[list[str] | None, typer.Argument()] = None
    ) -> None:
        note("a note")
        typer.echo(f"{url} {words} {verbosity().name}")

    app = typer.Typer()
    app.command("capture", cls=Command)(with_verbosity(capture))
    yield app
    set_verbosity(Verbosity.NORMAL)


@pytest.mark.parametrize("words", [["--send", "u"], ["--send=u"]])
def test_an_old_name_works_and_warns(app, words):
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.stdout == "u None NORMAL\n"
    assert "--send is now called --url" in done.stderr


def test_command_leaves_words_after_two_dashes_alone(app):
    """A new name does not warn and words after two dashes are left alone."""
    done = CliRunner().invoke(app, ["--url", "u", "--", "--send"], catch_exceptions=False)
    assert done.stdout == "u ['--send'] NORMAL\n"
    assert done.stderr == "a note\n"


def test_quiet_says_the_result_alone(app):
    done = CliRunner().invoke(app, ["-q"], catch_exceptions=False)
    assert (done.stdout, done.stderr) == (" None QUIET\n", "")
    with pytest.raises(EdgeError, match="opposites"):
        CliRunner().invoke(app, ["--quiet", "--verbose"], catch_exceptions=False)


def help_of(*words: str) -> str:
    done = CliRunner().invoke(
        cli._app(), [*words, "-h"], catch_exceptions=False, env={"COLUMNS": "80", "NO_COLOR": "1"},
        prog_name="edge-stscq",
    )  # fmt: skip
    assert done.exit_code == 0
    return done.stdout


@pytest.mark.parametrize("command", sorted(DEPRECATED))
def test_the_names_that_took_the_place_of_old_ones_exist(command):
    page = help_of(command)
    for new in DEPRECATED[command].values():
        assert f"{new} " in page


@pytest.mark.parametrize("command", ["quantize", "parity", "serve", "capture"])
def test_nothing_is_cut_at_80_columns(command):
    page = help_of(command)
    assert "…" not in page
    assert max(map(len, page.splitlines())) <= 80
    assert "--verbose" in page


@pytest.mark.parametrize("command", [("capture",), ("send",), ("spool", "drain")])
def test_whatever_talks_to_a_server_has_the_same_options(command):
    page = help_of(*command)
    for option in ("--url", "--token", "--token-file", "--cert", "--key", "--ca"):
        assert f"{option} " in page


def test_commands_stand_in_panels():
    page = help_of()
    assert "Start here:" in page
    assert "--install-completion" in page
    assert [page.index(panel) for _, _, panel in cli._COMMANDS] == sorted(
        page.index(panel) for _, _, panel in cli._COMMANDS
    )


@pytest.mark.parametrize(("number", "text"), [(0, "0 faces"), (1, "1 face"), (2000, "2,000 faces")])
def test_numbers_have_their_nouns(number, text):
    assert count(number, "face") == text


def test_every_default_is_a_value_of_its_option():
    """Defaults go through the parsers of their options, too."""

    def defaults(command, context):
        for parameter in command.params:
            value = parameter.get_default(context)
            if value is not None and not parameter.required:
                with contextlib.suppress(EdgeError):  # what it names need not be here
                    parameter.process_value(context, value)
        for name, below in getattr(command, "commands", {}).items():
            defaults(below, typer.Context(below, info_name=name, parent=context, resilient_parsing=True))

    command = typer.main.get_command(cli._app())
    defaults(command, typer.Context(command, info_name="edge-stscq", resilient_parsing=True))


def test_interrupt_before_a_command_begins_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_app", interrupted)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == EXIT_INTERRUPTED
