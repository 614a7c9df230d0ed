"""A model-free encoder and a loop around it."""

import numpy as np
import pytest
from numpy.typing import NDArray

from demo_camera.loop import CaptureLoop
from edge_stscq.device.detect import Detector
from edge_stscq.stream import CodedFace, FrameCodec, Tables

LAYER_ENDS = (4, 8, 12)


class FakeEncoder:
    """Twelve tokens that say how bright the crop is in twelve horizontal strips."""

    def encode(self, image: NDArray[np.uint8], layers: int | None) -> CodedFace:
        assert image.shape == (128, 128, 3)
        assert image.dtype == np.uint8
        strips = image[:120].reshape(12, -1).mean(1)
        return CodedFace(1, np.asarray(strips // 16, np.uint16), 3).truncate(layers or 3, LAYER_ENDS)


@pytest.fixture
def encoder() -> FakeEncoder:
    return FakeEncoder()


@pytest.fixture
def loop(detector: Detector, encoder: FakeEncoder) -> CaptureLoop:
    tables = Tables.from_counts(np.ones((2, 12, 16), np.int64), np.ones(2, np.int64), LAYER_ENDS)
    return CaptureLoop(detector, encoder, FrameCodec(tables, b"model 01"))
