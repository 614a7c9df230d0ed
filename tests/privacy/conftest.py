"""Embeddings and keys without a model."""

import hashlib
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_stscq.privacy import RecordKey

Embeddings = NDArray[np.float32]


@pytest.fixture
def embeddings() -> Embeddings:
    """Unit vectors float32 [40, 128]."""
    drawn = np.random.default_rng(3).standard_normal((40, 128))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def key() -> Callable[..., RecordKey]:
    """`key("name")`: a key that no other name has."""
    return lambda name: RecordKey(hashlib.sha256(str(name).encode()).digest())
