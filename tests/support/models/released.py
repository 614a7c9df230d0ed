"""The released model as this machine makes it; other processors and tools may make other bytes than the index lists."""

import os
import subprocess
import sys
from pathlib import Path

from edge_stscq.hub.publish import publish
from tests.conftest import REPOSITORY


def release_here(folder: Path) -> tuple[Path, Path]:
    """Export face64:onnx-int8 and publish it: a place to pull from, and the index that describes it."""
    model = REPOSITORY / "models" / "face64"
    export = ("-P", "-m", "edge_stscq", "export", "-t", "onnx", "--model", str(model), "-o", str(folder / "bundles"))
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    subprocess.run([sys.executable, *export], check=True, cwd=folder, env=environment)
    publish(model, folder / "bundles", folder / "place", folder / "index.json")
    return folder / "place", folder / "index.json"
