"""The golden model's int8 graph, and its bundle for every target."""

from pathlib import Path

import pytest

from targets import TARGETS
from targets.captured import CapturedModel, capture_model


@pytest.fixture(scope="session")
def calibrated(golden: Path) -> Path:
    return golden / "model"


@pytest.fixture(scope="session")
def source(calibrated: Path) -> CapturedModel:
    return capture_model(calibrated, "int8")


@pytest.fixture(scope="session")
def bundles(golden: Path) -> dict[str, Path]:
    """Folders by the name of the target; not to be written to."""
    return {target.name: golden / "bundles" / f"{target.name}-int8" for target in TARGETS}
