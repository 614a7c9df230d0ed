"""The command line stays as it is: every `--help` at a fixed width, and the keys of `--json`."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.commands import run_commands

PLAIN = {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb", "PYTHONUTF8": "1"}
ASCII = str.maketrans("╭╮╰╯─│…•", "++++-|.*")
"""Of the frames around a page, so that a golden file can be read."""
COLORED = ("FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS", "TERMINAL_WIDTH", "TTY_COMPATIBLE", "TTY_INTERACTIVE")

HELP = """
import json

import click
import typer
from typer.testing import CliRunner

from edge_stscq import cli

app = cli._app()
runner, pages = CliRunner(), {}


def walk(command, words):
    result = runner.invoke(app, [*words, "--help"], prog_name="edge-stscq")
    assert result.exit_code == 0, result.output
    pages[" ".join(["edge-stscq", *words])] = [line.rstrip() for line in result.output.splitlines()]
    for name, below in getattr(command, "commands", {}).items():
        walk(below, [*words, name])


walk(typer.main.get_command(app), [])
print(json.dumps(pages, ensure_ascii=False))
"""


def run(*words: object) -> str:
    """Standard output of Python with these arguments, without color and 100 columns wide."""
    kept = {name: value for name, value in os.environ.items() if name not in COLORED}
    command = [sys.executable, "-P", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=kept | PLAIN)
    assert done.returncode == 0, done.stderr
    return done.stdout


def keys_of(value: object) -> Any:
    """The keys of a JSON value's objects, in a list those of the first."""
    if isinstance(value, dict):
        return {key: keys_of(one) for key, one in value.items()}
    if isinstance(value, list):
        return [keys_of(one) for one in value[:1]]
    return None


def test_help_pages_are_the_golden_ones(expected: Any) -> None:
    pages = json.loads(run("-c", HELP).translate(ASCII))
    golden = expected("help", pages)
    assert pages.keys() == golden.keys()
    for command, page in golden.items():
        assert pages[command] == page, command


def test_json_keys_are_the_golden_ones(tiny_model: Path, tmp_path: Path, expected: Any) -> None:
    """Of the commands that need neither a bundle nor a server."""
    from edge_stscq.bundle import model_folder
    from edge_stscq.client.spool import Spool
    from edge_stscq.stream import CodedFace, FrameCodec, model_id

    config, tables = model_folder.load_config(tiny_model), model_folder.load_tables(tiny_model)
    codec = FrameCodec(tables, model_id(model_folder.full_books(tiny_model), tables))
    stream, tokens, spool = tmp_path / "faces.stsq", tmp_path / "tokens.db", tmp_path / "faces.spool"
    stream.write_bytes(codec.encode_stream([CodedFace(0, np.zeros(config.tokens, np.uint16), len(config.layer_ends))]))
    with Spool(spool, device="cam"):
        pass

    def ask(*words: object) -> Any:
        (done,) = run_commands((*words, "--json"))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    made = ask("token", "create", "--tokens", tokens, "--device", "cam")
    answers = {
        "token create": made,
        "token revoke": ask("token", "revoke", made["id"], "--tokens", tokens),
        "token list": ask("token", "list", "--tokens", tokens),
        "decode": ask("decode", stream, "--model", tiny_model, "-o", tmp_path / "out"),
        "spool status": ask("spool", "status", spool),
        "spool purge": ask("spool", "purge", spool, "--yes"),
        "doctor": ask("doctor"),
    }
    found = {command: keys_of(answer) for command, answer in answers.items()}
    assert found == expected("json_keys", found)
