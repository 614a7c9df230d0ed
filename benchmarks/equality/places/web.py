"""onnxruntime-web (WebAssembly, SIMD) with one thread and with two, in Node and in headless Chromium."""

import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

from benchmarks.equality.places.base import Command, Place, Setting
from edge_stscq.errors import EdgeError

FOLDER = Path(__file__).resolve().parent.parent / "web"
"""Scripts, page and the version of onnxruntime-web (`package.json`)."""
THREADS = (1, 2)


def package(setting: Setting) -> Path:
    """Folder of the installed onnxruntime-web, below the cache; `npm` brings it the first time.

    Raises:
        EdgeError: npm is not installed or cannot install it.
    """
    place = setting.cache / "equality" / "web"
    installed = place / "node_modules" / "onnxruntime-web"
    wanted = (FOLDER / "package.json").read_bytes()
    if installed.is_dir() and (place / "package.json").read_bytes() == wanted:
        return installed
    if shutil.which("npm") is None:
        raise EdgeError("npm is not installed; run: apt-get install npm, or install Node.js 20 or newer")
    place.mkdir(parents=True, exist_ok=True)
    (place / "package.json").write_bytes(wanted)
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    if done.returncode or not installed.is_dir():
        raise EdgeError(f"npm cannot install onnxruntime-web: {done.stderr.strip()[-300:]}")
    return installed


def _node(setting: Setting, threads: int) -> Command:
    if shutil.which("node") is None:
        raise EdgeError("node is not installed; run: apt-get install nodejs, version 20 or newer")
    artifact = setting.bundle("onnx").artefact.resolve()
    return Command(
        ["node", str(FOLDER / "worker.mjs"), str(package(setting).resolve()), str(artifact), str(threads)], {}
    )


def _chromium(setting: Setting, threads: int) -> Command:
    if shutil.which("chromium") is None or shutil.which("chromedriver") is None:
        raise EdgeError("Chromium is not installed; run: apt-get install chromium chromium-driver")
    artifact = setting.bundle("onnx").artefact.resolve()
    words = [sys.executable, "-m", "benchmarks.equality.browser", str(package(setting).resolve())]
    return Command([*words, str(artifact), str(threads)], {})


PLACES = tuple(
    Place(
        name=f"{name}-{threads}",
        title=f"onnxruntime-web (WASM SIMD), {title}, {threads} thread{'s' if threads > 1 else ''}",
        target="onnx",
        worker=partial(worker, threads=threads),
    )
    for name, title, worker in (("node", "Node.js", _node), ("chromium", "Chromium", _chromium))
    for threads in THREADS
)
