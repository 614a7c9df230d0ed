"""The wheels that pip installs: the one without a model, and the one that a camera runs from as it is."""

import importlib.util
import json
import os
import subprocess
import sys
import threading
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest

from edge_stscq import __version__
from edge_stscq._released import BUNDLE, MODEL
from edge_stscq.hub.index import Index
from tests.conftest import REPOSITORY
from tests.support.extras import NEEDED
from tests.support.installed import need_module
from tests.support.models.released import Released

need_module("executorch", "pip install 'edge-stscq[executorch]'")
need_module("onnxscript", "pip install 'edge-stscq[onnx]'")

pytestmark = pytest.mark.slow

SLOW = "EDGE_STSCQ_SLOW"
WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; from edge_stscq.cli import main; main()"


class Built(NamedTuple):
    """Both wheels, made as `make wheels` makes them, and the place that their index describes."""

    plain: Path
    full: Path
    place: Path
    index: Index


@pytest.fixture(scope="module")
def built(released: Released, tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("wheels")
    spec = importlib.util.spec_from_file_location("wheels", REPOSITORY / ".ci" / "wheels.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    plain, full = module.build(folder / "dist", released.bundle, released.index)
    return Built(plain, full, released.place, Index.model_validate_json(released.index.read_bytes()))


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_larger_wheel_adds_the_released_files_only(built: Built) -> None:
    """The larger wheel holds the released files and nothing else more."""
    released = {
        f"edge_stscq/hub/released/{release.folder}/{name}"
        for key in (MODEL, BUNDLE)
        for release in [built.index.find(key)]
        for name in release.files
    }
    assert names(built.full) - names(built.plain) == released
    assert names(built.plain) <= names(built.full)
    assert built.plain.stat().st_size < 1e6
    assert {"edge_stscq/hub/index.json", "edge_stscq/server/page/index.html"} <= names(built.plain)


def test_a_camera_without_torch_captures_from_the_larger_wheel(
    built: Built, portrait: dict[str, Path], tmp_path: Path
) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path / "site")]
    subprocess.run([*pip, str(built.full)], check=True)
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


class Camera:
    """An empty environment with one of the wheels and what pip brings for it."""

    def __init__(self, wheel: Path, folder: Path) -> None:
        venv.create(folder / "venv", with_pip=True)
        self._bin, self._folder = folder / "venv" / "bin", folder
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "EDGE_STSCQ"))}
        self._environment = kept | {"XDG_CACHE_HOME": str(folder / "cache")}
        assert self.run("pip", "install", "--quiet", wheel).returncode == 0

    def run(self, program: str, *words: object) -> subprocess.CompletedProcess[str]:
        command = [str(self._bin / program), *map(str, words)]
        return subprocess.run(
            command, cwd=self._folder, env=self._environment, text=True, capture_output=True, check=False
        )

    def edge(self, *words: object) -> subprocess.CompletedProcess[str]:
        return self.run("edge-stscq", *words)


@contextmanager
def offered(folder: Path) -> Iterator[str]:
    """Address of a web server that offers a folder."""
    handler = partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}"
        finally:
            http.shutdown()
            thread.join()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *words: object) -> None:
        pass


@pytest.mark.skipif(os.environ.get(SLOW) != "1", reason=f"installs packages into an empty environment; {SLOW}=1")
def test_the_smaller_wheel_in_an_empty_environment(built: Built, portrait: dict[str, Path], tmp_path: Path) -> None:
    camera = Camera(built.plain, tmp_path)
    assert camera.edge("--version").stdout == f"edge-stscq {__version__}\n"
    assert camera.run("python", "-c", "import edge_stscq; print(edge_stscq.__version__)").stdout.strip() == __version__
    assert camera.run("python", "-c", "import torch").returncode != 0
    for words, extra in NEEDED.items():
        done = camera.edge(*words.split())
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), (words, done.stderr)
        assert f"pip install 'edge-stscq[{extra}]'" in done.stderr, words

    before = json.loads(camera.edge("doctor", "--json", "--url", "http://127.0.0.1:1").stdout)
    assert [row["run"] for row in before["targets"] if row["target"] == "onnx"] == ["yes"]
    assert {row["what"]: row["found"] for row in before["surroundings"] if row["what"] != "camera"} == {
        "model": False, "bundle": False, "detector": True, "server": False,
    }  # fmt: skip
    capture = ("capture", "--source", portrait["astronaut"], "-o", "out.stsq")
    assert f"get it with: edge-stscq pull {BUNDLE} --from" in camera.edge(*capture).stderr
    with offered(built.place) as address:
        pulled = camera.edge("pull", BUNDLE, "--from", address)
    assert pulled.returncode == 0, pulled.stderr
    after = json.loads(camera.edge("doctor", "--json", "--url", "http://127.0.0.1:1").stdout)
    assert {row["what"]: row["detail"] for row in after["surroundings"]}["bundle"] == pulled.stdout.strip()
    done = camera.edge(*capture)
    assert done.returncode == 0, done.stderr
    assert camera.edge("selftest", BUNDLE).returncode == 0


@pytest.mark.skipif(os.environ.get(SLOW) != "1", reason=f"installs packages into an empty environment; {SLOW}=1")
def test_the_larger_wheel_in_an_empty_environment(built: Built, portrait: dict[str, Path], tmp_path: Path) -> None:
    camera = Camera(built.full, tmp_path)
    done = camera.edge("capture", "--source", portrait["astronaut"], "-o", "out.stsq")
    assert done.returncode == 0, done.stderr
    assert camera.edge("selftest", BUNDLE).returncode == 0
