"""A target that this repository does not have is two files and a row for each, and every command knows it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent

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


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    place = tmp_path / "dummy"
    place.mkdir()
    for name, text in (("dummy_runtime", RUNTIME), ("dummy_target", TARGET), ("sitecustomize", ROWS)):
        (place / f"{name}.py").write_text(text)
    return os.environ | {"PYTHONPATH": f"{place}{os.pathsep}{REPOSITORY}"}


def command(environment: dict[str, str], *words: object) -> Any:
    """Run one of this program's commands; the JSON that it prints."""
    line = [sys.executable, "-P", "-m", "edge_stscq", *map(str, words), "--json"]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_dummy_target_is_exported_run_and_listed(environment: dict[str, str], tiny_model: Path, tmp_path: Path) -> None:
    written = command(environment, "export", "--model", tiny_model, "-t", "pt2", "--precision", "fp32", "-o", tmp_path)
    (bundle,) = written["bundles"]
    assert (bundle["target"], bundle["agreement"]) == ("dummy", 1.0)
    assert bundle["runtime"].startswith("torch ")
    assert command(environment, "selftest", bundle["folder"])["passed"]
    rows = {row["target"]: row for row in command(environment, "doctor")["targets"]}
    assert (rows["dummy"]["export"], rows["dummy"]["run"], rows["dummy"]["runtime"]) == (True, "yes", "torch")
    (report,) = [command(environment, "parity", bundle["folder"], "--model", tiny_model)]
    assert (report["target"], report["runtime"]["tokens"]) == ("dummy", 1.0)


def test_bundle_of_a_target_without_a_runtime_is_refused(
    environment: dict[str, str], tiny_model: Path, tmp_path: Path
) -> None:
    command(environment, "export", "--model", tiny_model, "-t", "dummy", "--precision", "fp32", "-o", tmp_path)
    line = [sys.executable, "-P", "-m", "edge_stscq", "selftest", str(tmp_path / "dummy-fp32")]
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=os.environ | {
        "PYTHONPATH": str(REPOSITORY)
    })  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "'dummy'" in done.stderr
    assert done.stderr.count("\n") == 1
