"""What pip installs: the wheel without a model, and the one that a camera runs from as it is."""

import importlib.util
import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from edge_stscq.hub import load_index
from tests.conftest import REPOSITORY
from tests.support.installed import need_module

need_module("executorch", "pip install 'edge-stscq[executorch]'")
need_module("onnxscript", "pip install 'edge-stscq[onnx]'")

SLOW = "EDGE_STSCQ_SLOW"
WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; from edge_stscq.cli import main; main()"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Both wheels, made as `make wheels` makes them."""
    folder = tmp_path_factory.mktemp("wheels")
    export = ("-P", "-m", "edge_stscq", "export", "-t", "onnx", "--model", REPOSITORY / "models" / "face64")
    subprocess.run([sys.executable, *map(str, export), "-o", str(folder)], check=True, cwd=REPOSITORY)
    spec = importlib.util.spec_from_file_location("wheels", REPOSITORY / ".ci" / "wheels.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    plain, full = module.build(folder / "dist", folder / "onnx-int8")
    return plain, full


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_larger_wheel_adds_the_released_files_only(wheels: tuple[Path, Path]) -> None:
    """The larger wheel holds the released files and nothing else more."""
    plain, full = wheels
    released = {
        f"edge_stscq/hub/released/{release.folder}/{name}"
        for key in ("face64", "face64:onnx-int8")
        for release in [load_index().find(key)]
        for name in release.files
    }
    assert names(full) - names(plain) == released
    assert names(plain) <= names(full)
    assert plain.stat().st_size < 1e6
    assert {"edge_stscq/hub/index.json", "edge_stscq/server/page/index.html"} <= names(plain)


def test_a_camera_without_torch_captures_from_the_larger_wheel(
    wheels: tuple[Path, Path], portrait: dict[str, Path], tmp_path: Path
) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path / "site")]
    subprocess.run([*pip, str(wheels[1])], check=True)
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    command = ["capture", "--source", str(portrait["astronaut"]), "-o", "out.stsq", "--json"]
    done = subprocess.run(
        [sys.executable, "-P", "-c", WITHOUT_TORCH, *command], cwd=tmp_path, env=environment, text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["faces"] == 1
    assert str(tmp_path / "site") in report["bundle"]


@pytest.mark.skipif(os.environ.get(SLOW) != "1", reason=f"installs packages into two empty environments; {SLOW}=1")
@pytest.mark.parametrize("larger", [False, True])
def test_in_an_empty_environment(
    wheels: tuple[Path, Path], larger: bool, portrait: dict[str, Path], tmp_path: Path
) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "EDGE_STSCQ_MODELS")}
    environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        command = [str(python), "-m", *map(str, words)]
        return subprocess.run(command, cwd=tmp_path, env=environment, text=True, capture_output=True, check=False)

    assert run("pip", "install", "--quiet", wheels[larger]).returncode == 0
    assert run("torch").returncode != 0
    capture = ("edge_stscq", "capture", "--source", portrait["astronaut"], "-o", "out.stsq")
    done = run(*capture)
    if not larger:
        assert "get it with: edge-stscq pull face64:onnx-int8 --from" in done.stderr
        place = tmp_path / "place" / load_index().find("face64:onnx-int8").folder
        place.parent.mkdir(parents=True)
        place.symlink_to(wheels[0].parent.parent / "onnx-int8")
        assert run("edge_stscq", "pull", "face64:onnx-int8", "--from", tmp_path / "place").returncode == 0
        done = run(*capture)
    assert done.returncode == 0, done.stderr
    assert run("edge_stscq", "selftest", "face64:onnx-int8").returncode == 0
    assert "run: pip install 'edge-stscq[" in run("edge_stscq", "serve", "--model", "x/y").stderr
