"""Frames reach the file and the server, in order and each once; a dead server costs nothing but time."""

from pathlib import Path

import httpx2
import numpy as np
import pytest

from demo_camera.loop import CaptureLoop
from demo_camera.sinks import BATCH, FrameSink
from edge_stscq.client.sender import Sender
from edge_stscq.errors import EdgeError
from edge_stscq.stream import CodedFace
from tests.support.fakes import acknowledgement


class Server:
    """Remembers request bodies by their first sequence number; refuses from the `broken_from`-th request on."""

    def __init__(self, broken_from: int = 1000) -> None:
        self.requests: list[tuple[int, bytes]] = []
        self.broken_from = broken_from

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        if len(self.requests) >= self.broken_from:
            return httpx2.Response(403, json={"error": "go away"})
        self.requests.append((int(request.headers["Edge-Sequence"]), request.content))
        count = (len(request.content) - 13) // FRAME
        first = int(request.headers["Edge-Sequence"])
        return httpx2.Response(200, text=acknowledgement(request.headers["Edge-Device"], first, count))

    def sender(self) -> Sender:
        return Sender("http://server", "camera", transport=httpx2.MockTransport(self.answer), batch=BATCH)


FRAME = 9
"""Bytes of a frame below: one bit of group and four tokens of four bits, and 6 bytes around them."""


@pytest.fixture
def frames(loop: CaptureLoop) -> list[bytes]:
    faces = [CodedFace(i % 2, np.array([i % 16, i // 16, 5, 7]), 1) for i in range(BATCH + 3)]
    return [loop.codec.encode_frame(face) for face in faces]


def test_the_file_appears_when_the_capture_ends(loop: CaptureLoop, frames: list[bytes], tmp_path: Path) -> None:
    sink = FrameSink(loop.codec.header(), tmp_path / "out.stsq")
    for frame in frames:
        sink.put(frame)
    assert list(tmp_path.iterdir()) == []
    sink.close()
    assert [path.name for path in tmp_path.iterdir()] == ["out.stsq"]
    assert (tmp_path / "out.stsq").read_bytes() == loop.codec.header() + b"".join(frames)


def test_the_server_gets_every_frame_once_and_in_order(loop: CaptureLoop, frames: list[bytes]) -> None:
    server = Server()
    with server.sender() as sender:
        sink = FrameSink(loop.codec.header(), None, sender, first=10, clock=lambda: 0.0)
        for frame in frames:
            sink.put(frame)
        assert sink.acknowledged == BATCH
        sink.close()
    assert sink.acknowledged == len(frames)
    assert [first for first, _ in server.requests] == [10, 10 + BATCH]
    assert all(body.startswith(loop.codec.header()) for _, body in server.requests)
    assert b"".join(body[13:] for _, body in server.requests) == b"".join(frames)


def test_a_frame_does_not_wait_longer_than_a_second(loop: CaptureLoop, frames: list[bytes]) -> None:
    server, now = Server(), [0.0]
    with server.sender() as sender:
        sink = FrameSink(loop.codec.header(), None, sender, clock=lambda: now[0])
        sink.put(frames[0])
        assert server.requests == []
        now[0] = 1.0
        sink.put(frames[1])
        assert sink.acknowledged == 2
        now[0] = 1.5
        sink.put(frames[2])
        assert sink.acknowledged == 2


def test_a_refusing_server_loses_nothing(loop: CaptureLoop, frames: list[bytes], tmp_path: Path) -> None:
    server = Server(broken_from=1)
    path = tmp_path / "out.stsq"
    with server.sender() as sender:
        sink = FrameSink(loop.codec.header(), path, sender, clock=lambda: 0.0)
        for frame in frames:
            sink.put(frame)
        with pytest.raises(EdgeError, match=r"go away.*all frames are in .*out\.stsq, send them with"):
            sink.close()
    assert path.read_bytes() == loop.codec.header() + b"".join(frames)


def test_a_refusing_server_without_a_file_names_the_remedy(loop: CaptureLoop, frames: list[bytes]) -> None:
    server = Server(broken_from=0)
    with server.sender() as sender:
        sink = FrameSink(loop.codec.header(), None, sender, clock=lambda: 0.0)
        sink.put(frames[0])
        with pytest.raises(EdgeError, match="give -o FILE to keep"):
            sink.close()
