"""Every snippet of Python in README.md and docs/, run as it is printed, those of one file after each other.

A snippet that cannot run is marked by `<!-- not run: REASON -->` on the line above it; NOT_RUN counts them.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_stscq._released import MODEL
from tests.conftest import REPOSITORY
from tests.support.installed import need_module
from tests.support.serving import serving

need_module("executorch", "pip install 'edge-stscq[executorch]'")
need_module("onnxscript", "pip install 'edge-stscq[onnx]'")

SNIPPET = re.compile(r"(?P<mark><!-- not run: (?P<reason>.+?) -->\n)?^```python\n(?P<code>.*?)^```$", re.S | re.M)
FILES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
SNIPPETS = {path.relative_to(REPOSITORY).as_posix(): list(SNIPPET.finditer(path.read_text())) for path in FILES}
NOT_RUN = 0
SUBSTITUTED = {"cv2.VideoCapture(0)": 'cv2.VideoCapture("portrait.png")'}
"""A camera by a portrait."""
BUNDLE = "bundles/onnx-int8"
"""Put there for the files that do not export it themselves."""
SERVER = "http://127.0.0.1:8377"
"""Substituted by the address of a server, which starts for the files that speak of one."""


def python(*words: str) -> list[str]:
    return [sys.executable, "-P", *words]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the released model, a portrait and another one."""
    from demo_camera.sample_portraits import portraits

    (tmp_path / "models").symlink_to(REPOSITORY / "models")
    found = portraits()
    shutil.copyfile(found["astronaut"], tmp_path / "portrait.png")
    shutil.copyfile(found["grace_hopper"], tmp_path / "other.png")
    return tmp_path


@pytest.fixture
def lighter(folder: Path, integer_model: Path) -> None:
    """A small model in the place of the released one, whose export takes twice as long."""
    (folder / "models").unlink()
    (folder / "models").mkdir()
    (folder / "models" / MODEL).symlink_to(integer_model)


@pytest.fixture
def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EDGE_STSCQ_")}
    return kept | {"PYTHONPATH": str(REPOSITORY), "MPLBACKEND": "Agg"}


@pytest.fixture
def server(folder: Path) -> Iterator[str]:
    """Address of a server that holds the model in the folder."""
    with serving(folder / "models" / MODEL, folder / "server") as address:
        yield address


def script_of(snippets: list[re.Match[str]]) -> str:
    code = "\n".join(found["code"] for found in snippets if not found["mark"])
    for printed, run in SUBSTITUTED.items():
        code = code.replace(printed, run)
    return code


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, found in SNIPPETS.items() if found])
def test_snippets_run_in_order(
    name: str, folder: Path, environment: dict[str, str], request: pytest.FixtureRequest
) -> None:
    script = script_of(SNIPPETS[name])
    if "export(" in script:
        request.getfixturevalue("lighter")
    elif BUNDLE in script:
        (folder / "bundles").mkdir()
        (folder / BUNDLE).symlink_to(request.getfixturevalue("released").bundle)
    if SERVER in script:
        script = script.replace(SERVER, request.getfixturevalue("server"))
    (folder / "snippets.py").write_text(script)
    done = subprocess.run(
        python("-W", "error::ResourceWarning", "snippets.py"), cwd=folder, env=environment, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


def test_snippets_that_are_not_run_are_counted() -> None:
    marked = [found["reason"] for snippets in SNIPPETS.values() for found in snippets if found["mark"]]
    assert len(marked) == NOT_RUN, marked
    assert len(SNIPPETS["README.md"]) >= 5
    fences = sum(path.read_text().count("```python") for path in FILES)
    assert fences == sum(map(len, SNIPPETS.values())), "a fence that is not at the start of a line is not run"


def test_documents_build(tmp_path: Path) -> None:
    need_module("mkdocs", "pip install 'edge-stscq[docs]'")
    need_module("mkdocstrings", "pip install 'edge-stscq[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for page, name in (("codec", "edge_stscq.codec.model.Codec.decompress"), ("verbs", "edge_stscq.api.export")):
        assert f'id="{name}"' in (tmp_path / "site" / "api" / page / "index.html").read_text()
