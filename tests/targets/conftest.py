"""The tiny model's int8 graph, and its bundle for every target, made once for all tests of the targets."""

import shutil
from pathlib import Path

import pytest

from edge_stscq.codec.store import load_student
from quantization import calibrate
from targets import TARGETS
from targets.captured import CapturedModel, capture_model
from targets.golden import candidates
from targets.writer import write_bundle


@pytest.fixture(scope="session")
def calibrated(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calibrated") / "tiny"
    shutil.copytree(tiny_model, folder)
    calibrate(load_student(folder), candidates(8)).save(folder)
    return folder


@pytest.fixture(scope="session")
def source(calibrated: Path) -> CapturedModel:
    return capture_model(calibrated, "int8")


@pytest.fixture(scope="session")
def bundles(source: CapturedModel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders by the name of the target; not to be written to."""
    place = tmp_path_factory.mktemp("bundles")
    return {target.name: write_bundle(source, target, place / target.name).folder for target in TARGETS}
