"""A command that needs more than a camera has says in one line what to install."""

from pathlib import Path

import pytest

from edge_stscq.errors import EXIT_BAD_INPUT
from tests.support.commands import Done, run_commands_afresh
from tests.support.extras import NEEDED

ABSENT = (
    "torch",
    "fastapi",
    "uvicorn",
    "sqlalchemy",
    "pydantic_settings",
    "onnx",
    "onnxscript",
    "torchao",
    "executorch",
)
WITHOUT_THEM = f"""
import runpy, sys
sys.modules |= dict.fromkeys({ABSENT})
del sys.argv[:2]  # this and `-m`
runpy.run_module(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("empty")


@pytest.fixture(scope="module")
def answers(folder: Path) -> dict[str, Done]:
    """Results of all commands where those packages are absent."""
    lines = [words.split() for words in NEEDED]
    return dict(zip(NEEDED, run_commands_afresh(*lines, launcher=("-c", WITHOUT_THEM), folder=folder), strict=True))


@pytest.mark.parametrize(("words", "extra"), NEEDED.items())
def test_command_names_the_extra_it_needs(words: str, extra: str, answers: dict[str, Done], folder: Path) -> None:
    done = answers[words]
    assert done.returncode == EXIT_BAD_INPUT, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert f"pip install 'edge-stscq[{extra}]'" in done.stderr
    assert not list(folder.iterdir())
