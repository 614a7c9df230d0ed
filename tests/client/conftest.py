"""Streams of a made-up model, and a server that never leaves the process."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_stscq.stream import CodedFace, FrameCodec, Tables


@pytest.fixture(scope="session")
def codec() -> FrameCodec:
    tables = Tables.from_counts(np.zeros((2, 300, 16), np.int64), np.zeros(2, np.int64), (4, 8, 300))
    return FrameCodec(tables, b"\x01\x02\x03\x04\x05\x06\x07\x08")


@pytest.fixture(scope="session")
def faces() -> list[CodedFace]:
    """Five faces of 1, 2, 3, 1 and 2 layers; the third has a payload of over 127 bytes."""
    random = np.random.default_rng(0)
    sizes = {1: 4, 2: 8, 3: 300}
    return [
        CodedFace(layers % 2, random.integers(16, size=sizes[layers]).astype(np.uint16), layers)
        for layers in (1, 2, 3, 1, 2)
    ]


@pytest.fixture(scope="session")
def stream(codec: FrameCodec, faces: list[CodedFace]) -> bytes:
    return codec.encode_stream(faces)


@pytest.fixture(scope="session")
def made(codec: FrameCodec) -> list[list[bytes]]:
    """Sixty faces as a spool takes them: a frame with the basic layer and one with all three."""
    random = np.random.default_rng(1)
    whole = [CodedFace(n % 2, random.integers(16, size=300).astype(np.uint16), 3) for n in range(60)]
    frames = [codec.encode_frame(face) for face in whole]
    return [[codec.cut_frame(frame, 1), frame] for frame in frames]


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """Where a spool may be, in memory if there is such a file system: thousands of commits take long on a disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        yield Path(folder) / "faces.spool"
