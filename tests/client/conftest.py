"""Streams of a made-up model, and a server that never leaves the process."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edge_stscq.client.spool import Spool
from edge_stscq.stream import CodedFace, FrameCodec
from edge_stscq.stream.envelope import CapturedFace
from tests.client.filled import captured
from tests.support.streams import long_codec, long_faces

if TYPE_CHECKING:
    from tests.client.face_server import FaceServer


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
def made(codec: FrameCodec) -> list[CapturedFace]:
    """Sixty faces of visits of three, some without quality."""
    return [captured(codec, n, track=n // 3, quality=None if n % 7 == 0 else n) for n in range(60)]


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """Where a spool may be, in memory if there is such a file system: thousands of commits take long on a disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        yield Path(folder) / "faces.spool"


@pytest.fixture
def server(path: Path, codec: FrameCodec) -> "Iterator[FaceServer]":
    from tests.client.face_server import FaceServer, Store

    store = Store(path.with_name("faces.db"))
    yield FaceServer(store, codec)
    store.close()


@pytest.fixture
def spool(path: Path) -> Iterator[Spool]:
    with Spool(path, "cam") as opened:
        yield opened
