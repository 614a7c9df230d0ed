"""Frames reach the file and the server, in order and each once; a dead server costs nothing but time."""

import errno
import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path

import httpx2
import numpy as np
import pytest

from demo_camera.loop import CaptureLoop
from demo_camera.results import Capture
from demo_camera.sinks import BATCH, FrameSink
from edge_stscq.client.sender import Sender
from edge_stscq.device.detect import Face
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
def faces(loop: CaptureLoop) -> list[Capture]:
    coded = [CodedFace(i % 2, np.array([i % 16, i // 16, 5, 7]), 1) for i in range(BATCH + 3)]
    return [capture(loop.codec.captured(face, 1000 * i, Clock.SYNCHRONIZED)) for i, face in enumerate(coded)]


def capture(coded: CapturedFace) -> Capture:
    face = Face(points=np.zeros((5, 2)), box=(0, 0, 9, 9), score=1)
    return Capture("picture", face, np.zeros((128, 128, 3), np.uint8), coded, 50)


def kept(frames: Iterable[WireFrame]) -> list[tuple[int, int | None, bytes]]:
    return [(frame.number, frame.captured_ms, frame.payload) for frame in frames]


def all_of(faces: list[Capture]) -> list[tuple[int, int | None, bytes]]:
    return [(number, 1000 * number, face.coded.payloads[0][1]) for number, face in enumerate(faces)]


def in_file(path: Path) -> list[tuple[int, int | None, bytes]]:
    return kept(frame for _, frame in read_frames(path.read_bytes()))


def test_file_appears_when_the_capture_ends(faces: list[Capture], tmp_path: Path) -> None:
    sink = FrameSink("camera", tmp_path / "out.stsq")
    for face in faces:
        sink.put(face)
    (growing,) = tmp_path.iterdir()
    assert growing.name.startswith(".out.stsq.")
    assert in_file(growing) == all_of(faces)[:BATCH], "who is killed leaves what was captured"
    sink.close()
    assert [path.name for path in tmp_path.iterdir()] == ["out.stsq"]
    assert in_file(tmp_path / "out.stsq") == all_of(faces)
    assert stat.S_IMODE((tmp_path / "out.stsq").stat().st_mode) == 0o600


def test_capture_without_a_face_leaves_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "out.stsq"
    path.write_bytes(b"of yesterday")
    FrameSink("camera", path).close()
    assert path.read_bytes() == b"of yesterday"
    assert list(tmp_path.iterdir()) == [path]


def test_faces_reach_the_disk_after_a_while_though_no_other_comes(faces: list[Capture], tmp_path: Path) -> None:
    now = [0.0]
    sink = FrameSink("camera", tmp_path / "out.stsq", clock=lambda: now[0])
    sink.put(faces[0])
    (growing,) = tmp_path.iterdir()
    assert growing.stat().st_size == 0
    now[0] = 10.0
    sink.poll()
    assert in_file(growing) == all_of(faces[:1])


def test_prompt_sink_waits_for_nothing(faces: list[Capture], tmp_path: Path) -> None:
    server = Server()
    with server.sender() as sender:
        sink = FrameSink("camera", tmp_path / "out.stsq", sender, clock=lambda: 0.0, prompt=True)
        for count, face in enumerate(faces[:3], 1):
            sink.put(face)
            (growing,) = tmp_path.iterdir()
            assert len(in_file(growing)) == sink.acknowledged == count


def test_memory_is_bounded_by_a_batch(faces: list[Capture], tmp_path: Path) -> None:
    sink = FrameSink("camera", tmp_path / "out.stsq", clock=lambda: 0.0)
    for _ in range(20):
        for face in faces:
            sink.put(face)
        assert len(sink._kept) < BATCH
    sink.close()
    assert sink.written == 20 * len(faces) == len(in_file(tmp_path / "out.stsq"))


def full_disk(monkeypatch: pytest.MonkeyPatch, left: int) -> None:
    """Let `left` calls write, and no further ones."""
    write, calls = os.write, iter(range(left))

    def limited(number: int, data: bytes) -> int:
        if next(calls, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(number, data)

    monkeypatch.setattr(os, "write", limited)


def test_full_disk_is_said_once_and_what_is_kept_stays(
    faces: list[Capture], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, now = tmp_path / "out.stsq", [0.0]
    sink = FrameSink("camera", path, clock=lambda: now[0])
    full_disk(monkeypatch, left=1)
    for face in faces[:BATCH]:
        sink.put(face)
    now[0] = 10.0
    with pytest.raises(EdgeError, match=r"cannot write .*out\.stsq: No space left on device; check"):
        sink.put(faces[BATCH])
    now[0] = 20.0
    sink.put(faces[BATCH + 1])
    with pytest.raises(EdgeError, match=rf"No space left on device; .*; {BATCH} faces are in it, 2 are lost"):
        sink.close()
    assert in_file(path) == all_of(faces)[:BATCH]


def test_room_that_came_back_loses_nothing(
    faces: list[Capture], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, now = tmp_path / "out.stsq", [0.0]
    sink = FrameSink("camera", path, clock=lambda: now[0])
    with monkeypatch.context() as patch:
        full_disk(patch, left=0)
        now[0] = 10.0
        with pytest.raises(EdgeError, match="No space left"):
            sink.put(faces[0])
    sink.close()
    assert in_file(path) == all_of(faces[:1])


def test_server_gets_every_frame_once_and_in_order(faces: list[Capture]) -> None:
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


def test_frame_waits_no_longer_than_a_second(faces: list[Capture]) -> None:
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
        now[0] = 2.0
        sink.poll()
        assert sink.acknowledged == 3, "also while nobody comes"


def test_refusing_server_loses_nothing(faces: list[Capture], tmp_path: Path) -> None:
    server = Server(broken_from=1)
    path = tmp_path / "out.stsq"
    with server.sender() as sender:
        sink = FrameSink("camera", path, sender, clock=lambda: 0.0)
        for face in faces:
            sink.put(face)
        with pytest.raises(EdgeError, match=r"go away.*all frames are in .*out\.stsq, send them with"):
            sink.close()
    assert in_file(path) == all_of(faces)


def test_faces_after_a_refusal_are_kept_in_the_file(faces: list[Capture], tmp_path: Path) -> None:
    server, now = Server(broken_from=0), [0.0]
    with server.sender() as sender:
        sink = FrameSink("camera", tmp_path / "out.stsq", sender, clock=lambda: now[0])
        now[0] = 1.0
        with pytest.raises(EdgeError, match="go away"):
            sink.put(faces[0])
        sink.put(faces[1])
        sink.close()
    assert in_file(tmp_path / "out.stsq") == all_of(faces[:2])


def test_refusing_server_without_a_file_names_the_remedy(faces: list[Capture]) -> None:
    server = Server(broken_from=0)
    with server.sender() as sender:
        sink = FrameSink("camera", None, sender, clock=lambda: 0.0)
        sink.put(faces[0])
        with pytest.raises(EdgeError, match="give -o FILE to keep"):
            sink.close()


def test_refused_frames_are_named_at_the_end(faces: list[Capture], tmp_path: Path) -> None:
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


def test_captures_of_one_device_are_streams_of_their_own(faces: list[Capture]) -> None:
    server = Server()
    with server.sender() as sender:
        for _ in range(2):
            sink = FrameSink("camera", None, sender)
            sink.put(faces[0])
            sink.close()
    assert len({frame.name for frames in server.requests for frame in frames}) == 2
