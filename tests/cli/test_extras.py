"""A command that needs more than a camera has says in one line what to install."""

import subprocess
import sys
from pathlib import Path

import pytest

from edge_stscq.errors import EXIT_BAD_INPUT
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
BARE = f"import sys; sys.modules |= dict.fromkeys({ABSENT}); from edge_stscq.cli import main; main()"


@pytest.mark.parametrize(("words", "extra"), NEEDED.items())
def test_command_names_the_extra_it_needs(words: str, extra: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", BARE, *words.split()], cwd=tmp_path, text=True, capture_output=True, check=False
    )
    assert done.returncode == EXIT_BAD_INPUT, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert f"pip install 'edge-stscq[{extra}]'" in done.stderr
    assert not list(tmp_path.iterdir())
