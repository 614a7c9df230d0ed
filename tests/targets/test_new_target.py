"""A target that this repository does not have is two files and a row for each, and every command knows it."""

import json
import os
from pathlib import Path

import pytest

from tests.support.commands import run_commands, run_commands_afresh

pytestmark = pytest.mark.slow

RUNTIME = """
import io
from dataclasses import dataclass

from edge_stscq.device.runtimes.base import Runtime


@dataclass(frozen=True)
class TorchRuntime(Runtime):
    def load(self, bundle, threads):
        import torch

        program = torch.export.load(io.BytesIO(bundle.read(bundle.manifest.artefact))).module()
        return lambda picture: tuple(part.numpy() for part in program(torch.from_numpy(picture)))


RUNTIME = TorchRuntime(target="dummy", title="torch itself", package="torch", install="torch", modules=("torch",))
"""
TARGET = """
from dataclasses import dataclass

import dummy_runtime
from edge_stscq.bundle.manifest import RuntimeRange
from targets.base import Target


@dataclass(frozen=True)
class DummyTarget(Target):
    def lower(self, program, path):
        import torch

        torch.export.save(program, path)


TARGET = DummyTarget(
    title="Dummy", artefact="encoder.pt2", description="torch's own file", aliases=("pt2",), extra="train",
    packages=("torch",), runtime=dummy_runtime.RUNTIME, precisions=("fp32",),
    supported=RuntimeRange(package="torch", minimum="2.0", maximum_exclusive="3"),
)
"""
ROWS = """
import dummy_runtime, dummy_target
import edge_stscq.device.runtimes, targets

edge_stscq.device.runtimes.RUNTIMES += (dummy_runtime.RUNTIME,)
targets.TARGETS += (dummy_target.TARGET,)
"""
"""Stands for the two rows: Python runs it before anything else."""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    place = tmp_path_factory.mktemp("dummy")
    for name, text in (("dummy_runtime", RUNTIME), ("dummy_target", TARGET), ("sitecustomize", ROWS)):
        (place / f"{name}.py").write_text(text)
    return os.environ | {"PYTHONPATH": str(place)}


def test_dummy_target_is_exported_run_listed_and_unknown_elsewhere(
    environment: dict[str, str], integer_model: Path, tmp_path: Path
) -> None:
    """One bundle for all of it: where the target's rows are missing, it is refused in one line."""
    folder = tmp_path / "dummy-fp32"
    lines = (
        ("export", "--model", integer_model, "-t", "pt2", "--precision", "fp32", "-o", tmp_path, "--json"),
        ("selftest", folder, "--json"),
        ("doctor", "--json"),
        ("parity", folder, "--model", integer_model, "--json"),
    )
    answers = []
    for done in run_commands_afresh(*lines, environment=environment):
        assert done.returncode == 0, done.stderr
        answers.append(json.loads(done.stdout))
    written, tried, found, report = answers
    (bundle,) = written["bundles"]
    assert (bundle["target"], bundle["agreement"], bundle["folder"]) == ("dummy", 1.0, str(folder))
    assert bundle["runtime"].startswith("torch ")
    assert tried["passed"]
    rows = {row["target"]: row for row in found["targets"]}
    assert (rows["dummy"]["export"], rows["dummy"]["run"], rows["dummy"]["runtime"]) == (True, "yes", "torch")
    assert (report["target"], report["runtime"]["tokens"]) == ("dummy", 1.0)
    (elsewhere,) = run_commands(("selftest", folder))
    assert elsewhere.returncode == 2
    assert elsewhere.stderr.startswith("error: ")
    assert "'dummy'" in elsewhere.stderr
    assert elsewhere.stderr.count("\n") == 1
