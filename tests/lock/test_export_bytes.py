"""The same model gives the same bundle on every target, to the byte, whatever is renamed or moved.

The inputs are fixed: weights on a coarse grid and a committed calibration, so that no processor rounds them otherwise.
A manifest lists the sha256 of every file of its bundle, the artefact's among them. Tool versions are left out of what
is compared, and other tools than the golden file's give other bytes.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def manifests(golden: Path) -> dict[str, dict[str, Any]]:
    """Manifests by the folder of their bundle, e.g. `onnx-int8`."""
    return {path.parent.name: json.loads(path.read_bytes()) for path in golden.glob("bundles/*/manifest.json")}


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


def test_weights_of_the_lock_are_the_same_on_every_machine(golden: Path, expected: Any) -> None:
    """The weights under the golden bytes: a failure here is the fixture's or torch's, not an exporter's."""
    student = load_file(golden / "model" / "student.safetensors")
    sums = {key: float(value.double().sum()) for key, value in student.items()}
    assert sums == expected("weights", sums)
