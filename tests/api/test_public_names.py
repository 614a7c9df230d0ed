"""The front door: what `import edge_stscq` offers, what it costs, and what a type checker sees of it."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import edge_stscq as es
from tests.conftest import REPOSITORY

HEAVY = {"torch", "numpy", "cv2", "onnxruntime", "executorch", "coremltools", "pydantic", "typer", "rich", "httpx2"}


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_all_is_what_is_there() -> None:
    assert set(es.__all__) <= set(dir(es))
    tree = ast.parse((REPOSITORY / "edge_stscq" / "__init__.py").read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    typed = [alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted(typed) == sorted(es.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Codecs'"):
        _ = es.Codecs


@pytest.mark.parametrize("name", [*es.__all__, "server.create_app", "server.Settings", "server.load_settings"])
def test_public_names_are_documented_by_example(name: str) -> None:
    value = es
    for part in name.split("."):
        value = getattr(value, part)
    text = inspect.getdoc(value) or ""
    assert ">>> " in text or (name == "server" and "create_app(" in text), f"{name} shows no example"


def test_import_brings_nothing_heavy() -> None:
    assert run(f"import sys, edge_stscq; print(sorted({HEAVY!r} & sys.modules.keys()))") == "[]"
    assert run(f"import sys, edge_stscq.api; print(sorted({HEAVY!r} & sys.modules.keys()))") == "[]"


def test_a_cameras_names_bring_no_torch() -> None:
    used = "es.Bundle, es.CapturedFace, es.Codes, es.Sender, es.Spool, es.align, es.detect, es.read_image"
    assert run(f"import sys, edge_stscq as es; {used}; print('torch' in sys.modules)") == "False"


def test_a_missing_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['{module}'] = None\n"
        "import edge_stscq as es\n"
        "try: {use}\n"
        "except es.EdgeError as error: print(error)"
    )
    assert "edge-stscq[train]" in run(code.format(module="torch", use="es.Codec"))
    assert "edge-stscq[server]" in run(code.format(module="fastapi", use="es.server.create_app"))


def test_a_users_script_is_typed(tmp_path: Path) -> None:
    """Strictly, and with the types that are meant."""
    script = tmp_path / "script.py"
    script.write_text(
        "import edge_stscq as es\n"
        'codec = es.Codec.load("face64")\n'
        'reveal_type(codec.compress(es.align(es.read_image("portrait.png"))))\n'
        'reveal_type(es.export(codec, "onnx"))\n'
        'reveal_type(es.server.load_settings(model="models/face64"))\n'
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(script)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    revealed = [line.split('"')[1] for line in done.stdout.splitlines() if "Revealed type" in line]
    assert revealed == [
        "bytes", "edge_stscq.bundle.bundle.Bundle", "edge_stscq.server.settings.ServerSettings",
    ], done.stdout  # fmt: skip
    assert "error" not in done.stdout
