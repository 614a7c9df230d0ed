"""The same model gives the same bundle on every target, to the byte, whatever is renamed or moved.

The inputs are fixed: weights on a coarse grid and a committed calibration, so that no processor rounds them otherwise.
A manifest lists the sha256 of every file of its bundle, the artefact's among them. Tool versions are left out of what
is compared, and other tools than the golden file's give other bytes.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from edge_stscq.codec.store import create, load_student
from edge_stscq.config.codec import CodecConfig
from quantization import calibrate
from targets.golden import candidates
from tests.lock.conftest import GENERATE, GOLDEN
from tests.support.commands import run_commands

pytestmark = pytest.mark.slow

LAYER = {"identity": 2, "spatial": 2, "identity_dims": 8}
CONFIG = {
    "name": "lock", "groups": 2, "entries": 16, "dim": 4, "basic": LAYER, "middle": LAYER, "enhanced": LAYER,
    "thumbnail": 16, "teacher_width": 16, "student_width": 16, "student_trunk": [8] * 6,
    "decoder_channels": [16, 16, 8, 8], "style_dim": 16,
}  # fmt: skip
"""As a model folder has it: folders of earlier versions stay readable."""
GRID = 2**10
CALIBRATION = "calibration.safetensors"
TARGETS = {"int8": "all", "w8": "onnx", "fp32": "onnx"}
"""By precision: the other targets' float graphs take long and differ from ONNX's in what int8 shows as well."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder whose weights are multiples of 1/1024."""
    folder = tmp_path_factory.mktemp("lock") / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    create(folder, CodecConfig.load(folder / "config.json"))
    for name in ("identity", "teacher", "student", "decoder", "codebooks"):
        path = folder / f"{name}.safetensors"
        rounded = {
            key: (value.double() * GRID).round().div(GRID).to(value.dtype) if value.is_floating_point() else value
            for key, value in load_file(path).items()
        }
        save_file(rounded, path)
    if GENERATE:
        calibrate(load_student(folder), candidates(8)).save(GOLDEN)
    shutil.copyfile(GOLDEN / CALIBRATION, folder / CALIBRATION)
    return folder


@pytest.fixture(scope="module")
def manifests(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Manifests by the folder of their bundle, e.g. `onnx-int8`."""
    output = tmp_path_factory.mktemp("bundles")
    common = ("export", "--model", model, "-o", output)
    for done in run_commands(*((*common, "-t", TARGETS[name], "--precision", name) for name in TARGETS)):
        assert done.returncode == 0, done.stderr
    return {path.parent.name: json.loads(path.read_bytes()) for path in output.glob("*/manifest.json")}


def test_exported_bytes_are_the_golden_ones(manifests: dict[str, dict[str, Any]], expected: Any) -> None:
    tools: dict[str, str] = {}
    for manifest in manifests.values():
        tools |= manifest.pop("tool_versions")
        del manifest["manifest_sha256"]
    del tools["edge-stscq"]
    golden = expected("bundles", {"tools": tools, "manifests": manifests})
    assert tools == golden["tools"], "other tools give other bytes; install those of constraints.txt"
    for name, manifest in golden["manifests"].items():
        assert manifests[name] == manifest, name
    assert manifests.keys() == golden["manifests"].keys()


def test_weights_of_the_lock_are_the_same_on_every_machine(model: Path, expected: Any) -> None:
    """The weights under the golden bytes: a failure here is the fixture's or torch's, not an exporter's."""
    student = load_file(model / "student.safetensors")
    sums = {key: float(value.double().sum()) for key, value in student.items()}
    assert sums == expected("weights", sums)
