"""Sums in the same order on every run."""

from pathlib import Path

import pytest
import torch

from edge_stscq.data.loader import FaceSet


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Sums in the same order on every run; fresh networks let signals die out, and denormals are slow."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


@pytest.fixture(scope="session")
def faces(pictures: Path) -> FaceSet:
    return FaceSet([pictures])
