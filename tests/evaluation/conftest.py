"""Faces for metrics: two public-domain portraits, aligned, and what may have become of one of them."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from demo_camera.sample_portraits import portraits
from edge_stscq._images import read_image
from edge_stscq.device.crop import crop_face
from edge_stscq.device.detect import Detector


@pytest.fixture(scope="session")
def people() -> NDArray[np.uint8]:
    """Two people, uint8 [2,128,128,3]."""
    detector, found = Detector(), []
    for name in sorted(portraits()):
        picture = read_image(portraits()[name])
        face = detector.largest(picture)
        assert face is not None
        found.append(crop_face(picture, face.points))
    return np.stack(found)


@pytest.fixture(scope="session")
def anchors(people: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The first person, then from harmless to wrong: a little noise, blurred, another person, uint8 [4,128,128,3]."""
    face = people[0]
    noisy = np.clip(face + np.random.default_rng(0).normal(0, 4, face.shape), 0, 255).astype(np.uint8)
    return np.stack([face, noisy, cv2.GaussianBlur(face, (0, 0), 3), people[1]])
