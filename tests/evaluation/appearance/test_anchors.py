"""Every full-reference metric puts identical before noise before blur before another person's face."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_stscq.evaluation.appearance.perceptual import Perceptual
from edge_stscq.evaluation.appearance.ssimulacra import ssimulacra2
from edge_stscq.evaluation.metrics import ms_ssim, squared_error

Pictures = NDArray[np.uint8]


def perceptual(original: Pictures, other: Pictures) -> NDArray[np.float64]:
    look = Perceptual()
    return look.distance(look.features(original), look.features(other))


METRICS: dict[str, Callable[[Pictures, Pictures], NDArray[np.float64]]] = {
    "squared error": squared_error,
    "MS-SSIM": lambda a, b: 1 - ms_ssim(a, b),
    "perceptual distance": perceptual,
    "SSIMULACRA 2": lambda a, b: 100 - ssimulacra2(a, b),
}


@pytest.mark.parametrize("name", METRICS)
def test_likeness_goes_identical_noise_blur_another_person(name: str, anchors: Pictures) -> None:
    """Identical before noise before blur before another person."""
    values = METRICS[name](anchors[[0, 0, 0, 0]], anchors)
    assert values[0] == pytest.approx(0, abs=1e-6)
    assert values[1] > 0
    assert (np.diff(values) > 0.1 * values[1]).all(), values


@pytest.mark.parametrize("name", METRICS)
def test_real_faces_keep_that_order(name: str, shared_data: object) -> None:
    import cv2

    from edge_stscq.data.crops import load_faces

    faces = load_faces(shared_data / "lfw" / "lfw-crops.tar", count=4).images
    noise = np.random.default_rng(0).normal(0, 4, faces.shape)
    blurred = np.stack([cv2.GaussianBlur(face, (0, 0), 3) for face in faces])
    others = [faces, np.clip(faces + noise, 0, 255).astype(np.uint8), blurred, np.roll(faces, 1, axis=0)]
    values = np.array([METRICS[name](faces, other).mean() for other in others])
    assert (np.diff(values) > 0.1 * values[1]).all(), values
