"""Streams of a made-up model, and a server that never leaves the process."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_stscq.stream import CodedFace, FrameCodec
from tests.support.streams import long_codec, long_faces


@pytest.fixture(scope="session")
def codec() -> FrameCodec:
    return long_codec()


@pytest.fixture(scope="session")
def faces() -> list[CodedFace]:
    return long_faces()


@pytest.fixture(scope="session")
def stream(codec: FrameCodec, faces: list[CodedFace]) -> bytes:
    return codec.encode_stream(faces)


@pytest.fixture(scope="session")
def made(codec: FrameCodec) -> list[list[bytes]]:
    """Sixty faces as a spool takes them: a frame with the basic layer and one with all three."""
    random = np.random.default_rng(1)
    whole = [CodedFace(n % 2, random.integers(16, size=300).astype(np.uint16), 3) for n in range(60)]
    ends = codec.entropy.layer_ends
    return [[codec.encode_frame(face.truncate(1, ends)), codec.encode_frame(face)] for face in whole]


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """Where a spool may be, in memory if there is such a file system: thousands of commits take long on a disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        yield Path(folder) / "faces.spool"
