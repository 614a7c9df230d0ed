"""Picture and identity distances on known answers."""

import numpy as np
import pytest

from edge_stscq.evaluation.metrics import cosine, ms_ssim, pooled_psnr, psnr, squared_error


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


def test_ms_ssim_falls_with_noise_and_ignores_nothing_else() -> None:
    y, x = np.mgrid[0:128, 0:128]
    picture = np.repeat((127 + 100 * np.sin(x / 9) * np.cos(y / 7)).astype(np.uint8)[None, ..., None], 3, axis=-1)
    generator = np.random.default_rng(0)
    little, much = (np.clip(picture + generator.normal(0, s, picture.shape), 0, 255).astype(np.uint8) for s in (8, 60))
    values = [ms_ssim(picture, other)[0] for other in (picture, little, much)]
    assert values[0] == pytest.approx(1)
    assert 1 > values[1] > values[2] > 0
