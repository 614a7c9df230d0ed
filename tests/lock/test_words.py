"""Docstrings begin with a noun phrase or an imperative, and retired words stay retired."""

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent
FOLDERS = ("edge_stscq", "quantization", "targets", "demo_camera", "benchmarks", "fuzz", "tests", "examples")
QUESTION = re.compile(r"\s*(What|Who|How|Whether)\b")
RETIRED = re.compile("paint|turnstile|census|crowd", re.IGNORECASE)


def sources(folder: str, *endings: str) -> list[Path]:
    return sorted(path for path in (REPOSITORY / folder).rglob("*") if path.suffix in endings)


def questions(source: str) -> list[int]:
    """Lines of docstrings, and of strings under constants and fields, that begin with a question word."""
    alone = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Expr)]
    texts = [node for node in alone if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [node.lineno for node in texts if QUESTION.match(str(node.value))]


@pytest.mark.parametrize("folder", FOLDERS)
def test_docstrings_ask_nothing(folder: str) -> None:
    paths = sources(folder, ".py")
    assert paths
    found = [f"{path.relative_to(REPOSITORY)}:{line}" for path in paths for line in questions(path.read_text())]
    assert not found, "begin with a noun phrase or an imperative"


def test_questions_are_found_wherever_a_docstring_is() -> None:
    module = '"""What a."""\nclass A:\n    """Who b."""\n    c = 1\n    """\n    How c."""\n'
    function = 'async def d():\n    """Whether d."""\n    return "What"\ndef e():\n    """Whatever e."""\n'
    assert sorted(questions(module + function)) == [1, 3, 5, 8]


@pytest.mark.parametrize("folder", FOLDERS)
def test_retired_words_are_gone(folder: str) -> None:
    paths = [path for path in sources(folder, ".py", ".js", ".mjs", ".html") if path != Path(__file__).resolve()]
    text = {path: f"{path.relative_to(REPOSITORY)}\n{path.read_text()}" for path in paths}
    assert not {path: sorted(set(found)) for path in paths if (found := RETIRED.findall(text[path]))}
