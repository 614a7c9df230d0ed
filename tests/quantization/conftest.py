"""A model whose student was calibrated on drawn pictures."""

from pathlib import Path

import pytest

from tests.support.models.calibrated_model import Calibrated, write_calibrated_model


@pytest.fixture(scope="session")
def calibrated(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Calibrated:
    return write_calibrated_model(tiny_model, tmp_path_factory.mktemp("lively") / "tiny")
