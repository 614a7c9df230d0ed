"""Picture and identity distances on known answers."""

import numpy as np
import pytest

from edge_stscq.evaluation.metrics import cosine, pooled_psnr, psnr, squared_error


def test_squared_error_and_psnr() -> None:
    black = np.zeros((2, 4, 4, 3), np.uint8)
    other = black.copy()
    other[1] = 255
    error = squared_error(black, other)
    assert error.tolist() == [0.0, 65025.0]
    assert psnr(error).tolist() == [np.inf, 0.0]
    assert pooled_psnr(error) == pytest.approx(10 * np.log10(2))
    assert pooled_psnr(error[:1]) is None


def test_unsigned_differences_do_not_wrap() -> None:
    dark, light = np.full((1, 2, 2, 3), 10, np.uint8), np.full((1, 2, 2, 3), 20, np.uint8)
    assert squared_error(dark, light).tolist() == squared_error(light, dark).tolist() == [100.0]


def test_pictures_of_different_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        squared_error(np.zeros((1, 2, 2, 3), np.uint8), np.zeros((1, 3, 2, 3), np.uint8))


def test_cosine() -> None:
    first = np.array([[3, 0], [1, 1], [0, 0], [1, 0]], np.float32)
    second = np.array([[1, 0], [-2, -2], [1, 0], [0, 5]], np.float32)
    assert cosine(first, second) == pytest.approx([1, -1, 0, 0], abs=1e-6)
