from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from edge_stscq.training.data import FaceSet


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Sums in the same order on every run; fresh networks let signals die out, and denormals are slow."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four 144-px pictures of blobs, no two alike."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for index in range(24):
        blobs = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        image = cv2.resize(blobs, (144, 144), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"{index:02d}.png"), image)
    return folder


@pytest.fixture(scope="session")
def faces(pictures: Path) -> FaceSet:
    return FaceSet([pictures])
