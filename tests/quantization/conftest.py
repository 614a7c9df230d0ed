"""A tiny student, calibrated once on drawn pictures."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_stscq.codec.encoder import EdgeEncoder
from edge_stscq.codec.store import load_student
from quantization import Calibration, calibrate
from targets.golden import candidates


@dataclass(frozen=True)
class Calibrated:
    student: EdgeEncoder
    pictures: NDArray[np.uint8]
    calibration: Calibration


@pytest.fixture(scope="session")
def calibrated(tiny_model: Path) -> Calibrated:
    student = load_student(tiny_model)
    pictures = np.stack(candidates(11))
    return Calibrated(student, pictures, calibrate(student, pictures))
