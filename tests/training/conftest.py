"""Sums in the same order on every run."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Sums in the same order on every run; fresh networks let signals die out, and denormals are slow."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
