"""The golden model's int8 graph, and its bundle for every target; a few layers are kept in float32."""

from pathlib import Path

import pytest
import torch

from targets import TARGETS
from targets.captured import CapturedModel, capture_model


@pytest.fixture(scope="session")
def calibrated(golden: Path) -> Path:
    return golden / "model"


@pytest.fixture(scope="session")
def source(calibrated: Path) -> CapturedModel:
    """Read and captured a second time, by another number of threads than where the bundles were made."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        return capture_model(calibrated, "int8")
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def bundles(golden: Path) -> dict[str, Path]:
    """Folders by the name of the target; not to be written to."""
    return {target.name: golden / "bundles" / f"{target.name}-int8" for target in TARGETS}
