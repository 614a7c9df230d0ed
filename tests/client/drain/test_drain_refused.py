"""Frames that a server refuses are set aside with their reason, and never block what is behind them."""

import shutil
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from edge_stscq.client.drain import Drain
from edge_stscq.client.spool import LEAST_BYTES, Refusal, Spool
from edge_stscq.errors import EdgeError
from edge_stscq.protocol import REFUSED_REQUEST, RefusedFrame
from edge_stscq.stream import FrameCodec
from edge_stscq.stream.envelope import CapturedFace
from edge_stscq.stream.wire import read_frames
from tests.client.face_server import FaceServer
from tests.client.filled import captured, fill

Made = list[CapturedFace]
OTHER = b"another!"


@pytest.fixture
def other(codec: FrameCodec) -> FrameCodec:
    """The same tables under another model id, which the server does not hold at first."""
    return FrameCodec(codec.entropy, OTHER)


def of_other(face: CapturedFace) -> CapturedFace:
    return replace(face, model_id=OTHER)


def drained(spool: Spool, server: FaceServer, **options: object) -> Drain:
    with server.sender() as sender:
        drain = Drain(spool, sender, **options)  # type: ignore[arg-type]
        drain.run()
    return drain


MIXED = {
    "ahead of good ones": [True] * 5 + [False] * 15,
    "behind good ones": [False] * 15 + [True] * 5,
    "in turn": [True, False] * 10,
    "one in the middle": [False] * 10 + [True] + [False] * 9,
    "all": [True] * 20,
}


@pytest.mark.parametrize("unknown", MIXED.values(), ids=MIXED)
@pytest.mark.parametrize("whole", [False, True], ids=["basic first", "whole"])
def test_frames_of_a_model_that_the_server_lacks_are_set_aside_until_it_has_it(
    spool: Spool, server: FaceServer, codec: FrameCodec, other: FrameCodec, made: Made, unknown: list[bool], whole: bool
) -> None:
    faces = [of_other(face) if is_unknown else face for face, is_unknown in zip(made, unknown, strict=False)]
    fill(spool, faces)
    refused = [n for n, is_unknown in enumerate(unknown) if is_unknown]
    drain = drained(spool, server, batch=4, full_frames_only=whole)
    good = {n: face for n, face in enumerate(faces) if n not in refused}
    assert server.holds(spool.stream_id, good)
    assert (drain.report.faces, drain.report.refused) == (len(good), len(refused))
    state = spool.status()
    assert (state.waiting, state.refused, spool.waiting) == (len(refused), len(refused), 0)
    assert state.refusals == {"unknown-model": len(refused)}
    assert [one.number for one in spool.refusals()] == refused
    assert all(one.code == "unknown-model" and OTHER.hex() in one.reason for one in spool.refusals())
    requests = len(server.arrivals)
    assert drained(spool, server).report.requests == 0

    server.learn(codec, other)
    assert spool.retry() == len(refused)
    assert (spool.waiting, spool.refusals()) == (len(refused), [])
    again = drained(spool, server, full_frames_only=whole)
    assert (again.report.faces, again.report.refused) == (len(refused), 0)
    assert len(server.arrivals) > requests
    assert server.holds(spool.stream_id, dict(enumerate(faces)))
    assert spool.status().waiting == 0


def test_frames_of_one_request_are_refused_alone(spool: Spool, server: FaceServer, codec: FrameCodec) -> None:
    """Of one source, so that they travel together: payloads that no face makes, among good ones."""
    faces = [captured(codec, n) for n in range(12)]
    for n in (0, 5, 11):
        faces[n] = replace(faces[n], payloads=tuple((layers, data + b"\0") for layers, data in faces[n].payloads))
    fill(spool, faces)
    drain = drained(spool, server)
    assert [arrival.span for arrival in server.arrivals] == [
        (0, [1] * 12), (1, [3] * 4), (6, [3] * 5),
    ]  # fmt: skip
    assert (drain.report.faces, drain.report.refused, drain.report.frames) == (9, 3, 18)
    assert [(one.number, one.code) for one in spool.refusals()] == [(n, "not-canonical") for n in (0, 5, 11)]
    assert server.holds(spool.stream_id, {n: face for n, face in enumerate(faces) if n not in (0, 5, 11)})
    assert spool.drop() == 3
    state = spool.status()
    assert (state.waiting, state.refused, state.purged, state.refusals, spool.refusals()) == (0, 0, 3, {}, [])


def test_the_further_layers_of_a_face_may_be_refused_alone(
    spool: Spool, server: FaceServer, codec: FrameCodec, made: Made
) -> None:
    fill(spool, made[:4])
    server.script = [200, 200]
    with server.sender() as sender:
        drain = Drain(spool, sender, batch=2)

        def forget(_: object) -> None:
            if len(server.arrivals) == 2:
                server.learn()

        drain.run(on_progress=forget)
    assert server.holds(spool.stream_id, dict(enumerate(made[:4])), layers=1)
    assert (spool.status().refused, spool.status().basic_waiting) == (4, 0)
    server.learn(codec)
    spool.retry()
    drained(spool, server)
    assert server.holds(spool.stream_id, dict(enumerate(made[:4])))


def test_what_a_newer_device_sends_is_set_aside(spool: Spool, server: FaceServer, made: Made) -> None:
    fill(spool, [replace(made[0], kind=2, payloads=((1, bytes(41)),)), replace(made[1], coder_id=b"learned!")])
    fill(spool, [replace(made[2], extensions=b"\x85\x00"), made[3]])
    drained(spool, server)
    assert spool.status().refusals == {"unknown-coder": 1, "unknown-extension": 1, "unknown-kind": 1}
    assert server.holds(spool.stream_id, {3: made[3]})


def test_refused_faces_make_room_like_all_others(path: Path, server: FaceServer, made: Made) -> None:
    with Spool(path, "cam", max_bytes=LEAST_BYTES) as spool:
        fill(spool, map(of_other, made))
        drained(spool, server)
        assert spool.status().refused == 60
        for n in range(600):
            spool.put(made[n % 60])
        state = spool.status()
        assert (state.refused, spool.refusals(), state.bytes <= LEAST_BYTES) == (0, [], True)
        assert state.taken == state.waiting + state.delivered + state.dropped
        drained(spool, server)
        assert spool.status().waiting == 0


def test_a_purge_takes_refused_faces_along(spool: Spool, server: FaceServer, made: Made) -> None:
    fill(spool, [*map(of_other, made[:6]), *made[6:8]])
    drained(spool, server, batch=6)
    assert spool.purge(4) == 4
    assert [one.number for one in spool.refusals()] == [4, 5]
    assert spool.purge() == 2
    state = spool.status()
    assert (state.refused, state.waiting, state.purged, spool.refusals()) == (0, 0, 6, [])


def test_a_refusal_of_a_face_that_is_gone_leaves_nothing(spool: Spool, made: Made) -> None:
    fill(spool, made[:2])
    lease = spool.lease(9, 60)
    assert lease is not None
    spool.purge()
    word = RefusedFrame(stream=spool.stream_id.hex(), number=1, code="erased", reason="gone")
    assert spool.settle(lease, {1: word}) == 0
    assert (spool.refusals(), spool.status().refused) == ([], 0)


def test_what_a_server_says_is_kept_short(spool: Spool, server: FaceServer, made: Made) -> None:
    """Of any code, one that is not known here included; no word of it can move a cursor."""
    fill(spool, made[:1])
    stream = spool.stream_id.hex()
    code, reason = "a-new\x1b[2Jcode", "one\ntwo \x1b]0;title\x07" + "x" * 900
    word = {"stream": stream, "number": 0, "code": code, "reason": reason}
    server.script = [
        httpx2.Response(
            200, json={"device": "cam", "count": 1, "stored": 0, "extended": 0, "duplicate": 0, "refused": [word]}
        )
    ]
    drained(spool, server)
    (found,) = spool.refusals()
    assert (found.code, found.code.isprintable(), found.reason.isprintable()) == ("a-new [2Jcode", True, True)
    assert len(found.reason) <= 500


class Choosy:
    """A server that answers a whole request with a status as soon as it holds one of these faces."""

    def __init__(self, server: FaceServer, bad: set[int], status: int) -> None:
        self.server, self.bad, self.status = server, bad, status
        self.sizes: list[int] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        numbers = {frame.number for _, frame in read_frames(request.content)}
        self.sizes.append(len(numbers))
        if numbers & self.bad:
            return httpx2.Response(self.status, json={"error": "cannot be\tread"})
        return self.server(request)


@pytest.mark.parametrize("status", [400, 413])
@pytest.mark.parametrize("bad", [{0}, {7}, {15}, {3, 4}, {0, 2, 4, 6}, set(range(16))])
def test_a_request_that_is_refused_as_a_whole_is_halved_down_to_the_face(
    spool: Spool, server: FaceServer, made: Made, status: int, bad: set[int]
) -> None:
    fill(spool, made[:16])
    choosy = Choosy(server, bad, status)
    with server.sender(transport=httpx2.MockTransport(choosy)) as sender:
        drain = Drain(spool, sender, full_frames_only=True)
        drain.run()
    assert server.holds(spool.stream_id, {n: face for n, face in enumerate(made[:16]) if n not in bad})
    assert spool.refusals() == [Refusal(n, REFUSED_REQUEST, f"{status} cannot be read") for n in sorted(bad)]
    assert (drain.report.refused, drain.report.faces) == (len(bad), 16 - len(bad))
    assert drain.report.requests == len(choosy.sizes)
    if len(bad) == 1:
        assert sorted(choosy.sizes) == [1, 1, 2, 2, 4, 4, 8, 8, 16]
    assert all(count == 1 for found in server.results(spool.stream_id).values() for count in found.values())


def test_a_server_that_takes_fewer_frames_gets_fewer(
    spool: Spool, server: FaceServer, codec: FrameCodec, made: Made
) -> None:
    fill(spool, made[:40])
    small = FaceServer(server.store, codec, max_frames=6)
    drain = drained(spool, small, batch=32)
    sizes = [len(arrival.frames) for arrival in small.arrivals]
    assert sizes[:3] == [32, 16, 8]
    assert sizes.count(32) == 1
    assert sizes[-10:] == [4] * 10
    assert server.holds(spool.stream_id, dict(enumerate(made[:40])))
    assert (drain.report.refused, spool.status().waiting) == (0, 0)


@pytest.mark.parametrize("follow", [False, True])
def test_a_server_that_dies_in_the_middle_of_a_split_has_what_it_answered(
    spool: Spool, server: FaceServer, made: Made, follow: bool
) -> None:
    """Of 8 faces the third is bad: 0-7 refused, 0-3 refused, 0-1 stored, 2-3 refused, 2 refused, and then nothing."""
    fill(spool, made[:8])
    choosy, deaths = Choosy(server, {2}, 400), iter([True])
    waits: list[list[int]] = []

    def dies(request: httpx2.Request) -> httpx2.Response:
        if len(choosy.sizes) == 5 and next(deaths, False):
            raise httpx2.ConnectError("Connection refused")
        return choosy(request)

    def wait(_: float) -> None:
        waits.append([one.number for one in spool.refusals()] + [spool.status().leased, spool.waiting])
        if spool.waiting == 0:
            raise KeyboardInterrupt

    with server.sender(transport=httpx2.MockTransport(dies), attempts=1) as sender:
        drain = Drain(spool, sender, full_frames_only=True, sleep=wait)
        if follow:
            with pytest.raises(KeyboardInterrupt):
                drain.run(follow=True)
            assert waits == [[2, 0, 5], [2, 0, 0]]
        else:
            with pytest.raises(EdgeError, match=r"5 faces wait"):
                drain.run()
            assert server.holds(spool.stream_id, dict(enumerate(made[:2])))
            drain.run()
    assert choosy.sizes[:5] == [8, 4, 2, 2, 1]
    assert server.holds(spool.stream_id, {n: made[n] for n in range(8) if n != 2})
    assert [one.number for one in spool.refusals()] == [2]
    assert all(count == 1 for found in server.results(spool.stream_id).values() for count in found.values())


def test_a_face_that_is_already_another_on_the_server_is_set_aside(
    path: Path, spool: Spool, server: FaceServer, made: Made
) -> None:
    """A copy of a spool goes on by itself: both have one stream, and the second writer of a number is told so."""
    fill(spool, made[:3])
    copy = path.with_name("copy.spool")
    spool._file.vacuum()
    shutil.copy(path, copy)
    with Spool(copy) as twin:
        fill(spool, made[3:5])
        fill(twin, made[5:8])
        drained(spool, server)
        drained(twin, server)
        assert [(one.number, one.code) for one in twin.refusals()] == [(3, "conflict"), (4, "conflict")]
    assert server.holds(spool.stream_id, {**dict(enumerate(made[:5])), 5: made[7]})
