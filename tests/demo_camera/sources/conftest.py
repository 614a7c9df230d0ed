"""A picture whose four corners differ, and a reporter that keeps what was said."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.sources.pictures import Lines


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def corners() -> NDArray[np.uint8]:
    """Picture `[48, 64, 3]`: red, green, blue and white quarters."""
    image = np.zeros((48, 64, 3), np.uint8)
    image[:24, :32] = (220, 0, 0)
    image[:24, 32:] = (0, 220, 0)
    image[24:, :32] = (0, 0, 220)
    image[24:, 32:] = (220, 220, 220)
    return image
