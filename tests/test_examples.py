"""The programs and the notebook of examples/, run as a reader runs them."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import edge_stscq as es
from tests.conftest import REPOSITORY
from tests.support.serving import serving

EXAMPLES = REPOSITORY / "examples"
NOTEBOOK = json.loads((EXAMPLES / "first_look.ipynb").read_text())


def run(folder: Path, *words: object) -> str:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "MPLBACKEND": "Agg"}
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_compress_folder(tiny_model: Path, portrait: dict[str, Path], tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for name, path in portrait.items():
        shutil.copyfile(path, photos / f"{name}{path.suffix}")
    (photos / "torn.jpg").write_bytes(b"\xff\xd8")
    said = run(
        tmp_path, EXAMPLES / "compress_folder.py", photos, "faces.stsq", "--model", tiny_model, "--layers", "1",
        "--decoded", "decoded",
    )  # fmt: skip
    assert "torn.jpg: left out" in said
    assert f"2 faces in {(tmp_path / 'faces.stsq').stat().st_size} bytes" in said
    assert {path.stem for path in (tmp_path / "decoded").iterdir()} == portrait.keys()


def test_camera_to_server(tiny_model: Path, tiny_bundle: Path, portrait: dict[str, Path], tmp_path: Path) -> None:
    with serving(tiny_model, tmp_path / "server") as address:
        said = run(
            tmp_path, EXAMPLES / "camera_to_server.py", portrait["astronaut"], address, "--bundle", tiny_bundle
        )
    assert re.match(r"1 faces seen, 1 stored by the server, \d+ bytes on the link", said)
    with es.Spool(tmp_path / "door-1.spool") as spool:
        assert spool.waiting == 0


def test_notebook_runs_and_holds_no_output(tmp_path: Path) -> None:
    cells = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    assert len(cells) >= 5
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)
    (tmp_path / "cells.py").write_text("\n".join("".join(cell["source"]) for cell in cells))
    said = run(tmp_path, "cells.py")
    assert re.search(r"3 layers: \d+ bytes for 2 faces", said)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_examples_explain_themselves(path: Path, tmp_path: Path) -> None:
    assert "usage:" in run(tmp_path, path, "--help")
