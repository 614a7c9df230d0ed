from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_stscq.evaluation.appearance.perceptual import Perceptual

Distance = Callable[[NDArray[np.uint8], NDArray[np.uint8]], float]


@pytest.fixture(scope="module")
def picture() -> NDArray[np.uint8]:
    blobs = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    return np.asarray(cv2.resize(blobs, (128, 128), interpolation=cv2.INTER_CUBIC), np.uint8)[None]


@pytest.fixture(scope="module")
def distance() -> Distance:
    """`distance(first, second)` of two pictures, uint8 [1, 128, 128, 3]."""
    look = Perceptual()
    return lambda first, second: float(look.distance(look.features(first), look.features(second))[0])


def test_likeness_falls_with_blur(distance: Distance, picture: NDArray[np.uint8]) -> None:
    """A picture looks like itself and less so the more it is blurred."""
    assert distance(picture, picture) == 0
    little, much = (cv2.GaussianBlur(picture[0], (0, 0), sigma)[None] for sigma in (2, 8))
    assert 0 < distance(picture, little) < distance(picture, much) < 4


def test_a_change_of_light_looks_smaller_than_another_picture(distance: Distance, picture: NDArray[np.uint8]) -> None:
    darker = (picture * 0.9).astype(np.uint8)
    assert distance(picture, darker) < 0.5 * distance(picture, picture[:, ::-1].copy())
