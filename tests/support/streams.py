"""Streams of a made-up model with long faces."""

import numpy as np

from edge_stscq.stream import CodedFace, FrameCodec, Tables


def long_codec() -> FrameCodec:
    """Frames of 300 tokens in three layers of 4, 4 and 292."""
    tables = Tables.from_counts(np.zeros((2, 300, 16), np.int64), np.zeros(2, np.int64), (4, 8, 300))
    return FrameCodec(tables, b"\x01\x02\x03\x04\x05\x06\x07\x08")


def long_faces() -> list[CodedFace]:
    """Five faces of 1, 2, 3, 1 and 2 layers; the third has a payload of over 127 bytes."""
    random = np.random.default_rng(0)
    sizes = {1: 4, 2: 8, 3: 300}
    return [
        CodedFace(layers % 2, random.integers(16, size=sizes[layers]).astype(np.uint16), layers)
        for layers in (1, 2, 3, 1, 2)
    ]
