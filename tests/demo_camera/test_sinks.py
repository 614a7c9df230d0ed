"""Frames reach the file and the server, in order and each once; a dead server costs nothing but time."""

import json
from collections.abc import Iterable
from pathlib import Path

import httpx2
import numpy as np
import pytest

from demo_camera.loop import CaptureLoop
from demo_camera.sinks import BATCH, FrameSink
from edge_stscq.client.sender import Sender
from edge_stscq.errors import EdgeError
from edge_stscq.stream import CapturedFace, Clock, CodedFace
from edge_stscq.stream.envelope import WireFrame
from edge_stscq.stream.wire import read_frames
from tests.support.fakes import stream_acknowledgement


class Server:
    """Remembers the frames of each request; refuses from the `broken_from`-th request on."""

    def __init__(self, broken_from: int = 1000) -> None:
        self.requests: list[list[WireFrame]] = []
        self.broken_from = broken_from

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        if len(self.requests) >= self.broken_from:
            return httpx2.Response(403, json={"error": "go away"})
        self.requests.append([frame for _, frame in read_frames(request.content)])
        return httpx2.Response(200, text=stream_acknowledgement(request.content))

    def sender(self) -> Sender:
        return Sender("http://server", "camera", transport=httpx2.MockTransport(self.answer), batch=BATCH)


@pytest.fixture
def faces(loop: CaptureLoop) -> list[CapturedFace]:
    coded = [CodedFace(i % 2, np.array([i % 16, i // 16, 5, 7]), 1) for i in range(BATCH + 3)]
    return [loop.codec.captured(face, 1000 * i, Clock.SYNCHRONIZED) for i, face in enumerate(coded)]


def kept(frames: Iterable[WireFrame]) -> list[tuple[int, int | None, bytes]]:
    return [(frame.number, frame.captured_ms, frame.payload) for frame in frames]


def all_of(faces: list[CapturedFace]) -> list[tuple[int, int | None, bytes]]:
    return [(number, 1000 * number, face.payloads[0][1]) for number, face in enumerate(faces)]


def in_file(path: Path) -> list[tuple[int, int | None, bytes]]:
    return kept(frame for _, frame in read_frames(path.read_bytes()))


def test_file_appears_when_the_capture_ends(faces: list[CapturedFace], tmp_path: Path) -> None:
    sink = FrameSink("camera", tmp_path / "out.stsq")
    for face in faces:
        sink.put(face)
    assert list(tmp_path.iterdir()) == []
    sink.close()
    assert [path.name for path in tmp_path.iterdir()] == ["out.stsq"]
    assert in_file(tmp_path / "out.stsq") == all_of(faces)


def test_server_gets_every_frame_once_and_in_order(faces: list[CapturedFace]) -> None:
    server = Server()
    with server.sender() as sender:
        sink = FrameSink("camera", None, sender, clock=lambda: 0.0)
        for face in faces:
            sink.put(face)
        assert sink.acknowledged == BATCH
        sink.close()
    assert sink.acknowledged == len(faces)
    assert [len(frames) for frames in server.requests] == [BATCH, 3]
    assert [one for frames in server.requests for one in kept(frames)] == all_of(faces)
    assert {frame.source.device for frames in server.requests for frame in frames} == {"camera"}


def test_frame_waits_no_longer_than_a_second(faces: list[CapturedFace]) -> None:
    server, now = Server(), [0.0]
    with server.sender() as sender:
        sink = FrameSink("camera", None, sender, clock=lambda: now[0])
        sink.put(faces[0])
        assert server.requests == []
        now[0] = 1.0
        sink.put(faces[1])
        assert sink.acknowledged == 2
        now[0] = 1.5
        sink.put(faces[2])
        assert sink.acknowledged == 2


def test_refusing_server_loses_nothing(faces: list[CapturedFace], tmp_path: Path) -> None:
    server = Server(broken_from=1)
    path = tmp_path / "out.stsq"
    with server.sender() as sender:
        sink = FrameSink("camera", path, sender, clock=lambda: 0.0)
        for face in faces:
            sink.put(face)
        with pytest.raises(EdgeError, match=r"go away.*all frames are in .*out\.stsq, send them with"):
            sink.close()
    assert in_file(path) == all_of(faces)


def test_refusing_server_without_a_file_names_the_remedy(faces: list[CapturedFace]) -> None:
    server = Server(broken_from=0)
    with server.sender() as sender:
        sink = FrameSink("camera", None, sender, clock=lambda: 0.0)
        sink.put(faces[0])
        with pytest.raises(EdgeError, match="give -o FILE to keep"):
            sink.close()


def test_refused_frames_are_named_at_the_end(faces: list[CapturedFace], tmp_path: Path) -> None:
    def refuse(request: httpx2.Request) -> httpx2.Response:
        answer = json.loads(stream_acknowledgement(request.content))
        frame = next(frame for _, frame in read_frames(request.content))
        one = {"stream": frame.source.stream_id.hex(), "number": frame.number, "code": "unknown-model", "reason": "no"}
        return httpx2.Response(200, json=answer | {"stored": answer["stored"] - 1, "refused": [one]})

    path = tmp_path / "out.stsq"
    with Sender("http://server", "camera", transport=httpx2.MockTransport(refuse)) as sender:
        sink = FrameSink("camera", path, sender, clock=lambda: 0.0)
        sink.put(faces[0])
        sink.put(faces[1])
        with pytest.raises(EdgeError, match=r"refused 1 frames: unknown-model, no; all frames are in .*out\.stsq"):
            sink.close()
    assert sink.acknowledged == 1
    assert len(in_file(path)) == 2


def test_captures_of_one_device_are_streams_of_their_own(faces: list[CapturedFace]) -> None:
    server = Server()
    with server.sender() as sender:
        for _ in range(2):
            sink = FrameSink("camera", None, sender)
            sink.put(faces[0])
            sink.close()
    assert len({frame.name for frames in server.requests for frame in frames}) == 2
