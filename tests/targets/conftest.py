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
from tests.support.once import made_once


@pytest.fixture(scope="session")
def calibrated(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make(folder: Path) -> None:
        shutil.copytree(tiny_model, folder, dirs_exist_ok=True)
        calibrate(load_student(folder), candidates(8)).save(folder)

    return made_once(tmp_path_factory, "calibrated", make)


@pytest.fixture(scope="session")
def source(calibrated: Path) -> CapturedModel:
    return capture_model(calibrated, "int8")


@pytest.fixture(scope="session")
def bundles(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders by the name of the target; not to be written to."""

    def make(place: Path) -> None:
        source = request.getfixturevalue("source")
        for target in TARGETS:
            write_bundle(source, target, place / target.name)

    place = made_once(tmp_path_factory, "tiny-bundles", make)
    return {target.name: place / target.name for target in TARGETS}
