"""Folders that are costly to make, made once for all workers of a test run."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Folder that the first worker to ask for it makes; the others wait for it. Not to be written to.

    Args:
        name: of the folder, which says all that its content depends on, e.g. "face64-onnx-int8".
        make: fills an empty folder; if it fails, the next to ask tries again.
    """
    place = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = place.parent  # each worker has a folder of its own in that of the run
    folder, fresh = place / "once" / name, place / "once" / f".{name}"
    folder.parent.mkdir(exist_ok=True)
    with FileLock(folder.with_name(f"{name}.lock")):
        if not folder.exists():
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir()
            make(fresh)
            fresh.rename(folder)
    return folder
