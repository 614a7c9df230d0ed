"""A drain sends everything once, basic layers first, and whatever stops it keeps what has no answer."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from edge_stscq.client.drain import Drain
from edge_stscq.client.spool import Spool
from edge_stscq.errors import EdgeError
from edge_stscq.stream import FrameCodec
from edge_stscq.stream.envelope import CapturedFace, Clock
from tests.client.face_server import FaceServer
from tests.client.filled import captured, fill

Made = list[CapturedFace]


def numbered(faces: Made, first: int = 0) -> Mapping[int, CapturedFace]:
    return dict(enumerate(faces, first))


def test_basic_layers_go_first_and_are_completed(spool: Spool, server: FaceServer, made: Made) -> None:
    fill(spool, made[:5])
    steps = []
    with server.sender() as sender:
        drain = Drain(spool, sender, batch=2)
        drain.run(on_progress=lambda report: steps.append(report.faces))
    sent = [arrival.span for arrival in server.arrivals]
    assert sent == [(0, [1, 1]), (2, [1, 1]), (4, [1]), (0, [3, 3]), (2, [3, 3]), (4, [3])]
    assert steps == [0, 0, 0, 2, 4, 5]
    report = drain.report
    assert (report.faces, report.frames, report.stored, report.extended, report.duplicate) == (5, 10, 5, 5, 0)
    assert (report.requests, report.retries, report.refused) == (6, 0, 0)
    assert server.holds(spool.stream_id, numbered(made[:5]))


def test_whole_faces_go_once(spool: Spool, server: FaceServer, made: Made) -> None:
    fill(spool, made[:5])
    with server.sender() as sender:
        Drain(spool, sender, full_frames_only=True).run()
    assert [arrival.span for arrival in server.arrivals] == [(0, [3] * 5)]
    assert server.holds(spool.stream_id, numbered(made[:5]))


def test_what_may_pass_is_tried_again_and_whoever_is_refused_keeps_all(
    spool: Spool, server: FaceServer, made: Made
) -> None:
    fill(spool, made[:5])
    server.script = [503, 200, 503, 503]
    pauses: list[float] = []
    with server.sender(pauses, attempts=2) as sender:
        drain = Drain(spool, sender, batch=3)
        with pytest.raises(EdgeError, match=r"gave up after 2 tries.*\(5 faces wait in the spool\)"):
            drain.run()
        assert (drain.report.frames, drain.report.requests, drain.report.retries, len(pauses)) == (3, 4, 1, 2)
        for status in (401, 403):
            server.script = [status]
            with pytest.raises(EdgeError, match=f"refused the frames: {status} as told"):
                drain.run()
            state = spool.status()
            assert (state.leased, state.basic_waiting, state.refused) == (0, 2, 0)
        drain.run()
    assert server.holds(spool.stream_id, numbered(made[:5]))


def test_following_outlasts_an_outage(spool: Spool, server: FaceServer, made: Made) -> None:
    fill(spool, made[:2])
    server.script = [503] * 5
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if spool.waiting == 0:
            raise KeyboardInterrupt

    with server.sender(attempts=2) as sender, pytest.raises(KeyboardInterrupt):
        Drain(spool, sender, sleep=wait).run(follow=True)
    assert len(waits) == 3
    assert all(15 <= seconds <= 30 for seconds in waits[:2])
    assert server.holds(spool.stream_id, numbered(made[:2]))


def test_a_server_of_before_version_2_is_named_and_nothing_is_lost(
    spool: Spool, server: FaceServer, made: Made
) -> None:
    fill(spool, made[:5])
    server.old = True
    with server.sender() as sender:
        with pytest.raises(EdgeError, match="is a server of before wire version 2; update the server"):
            Drain(spool, sender).run(follow=True)
        state = spool.status()
        assert (state.waiting, state.leased, state.refused, len(server.arrivals)) == (5, 0, 0, 1)
        server.old = False
        Drain(spool, sender).run()
    assert server.holds(spool.stream_id, numbered(made[:5]))


def test_two_drains_of_one_spool_send_each_face_once(path: Path, server: FaceServer, made: Made) -> None:
    """One has the first faces on lease and is slow; the other goes on behind it and waits for the rest."""
    with Spool(path, "cam") as spool, Spool(path) as other:
        fill(spool, made[:20])
        slow = spool.lease(8, 60)
        assert slow is not None

        def wait(_: float) -> None:
            if other.status().leased:
                spool.release(slow)

        with server.sender() as sender:
            Drain(other, sender, batch=5, sleep=wait).run()
        assert server.holds(spool.stream_id, numbered(made[:20]))
    results = server.results(spool.stream_id)
    assert {n: dict(found) for n, found in results.items()} == {n: {"stored": 1, "extended": 1} for n in range(20)}


def test_a_lost_acknowledgement_makes_duplicates_and_no_second_face(
    spool: Spool, server: FaceServer, made: Made
) -> None:
    fill(spool, made[:6])
    lost = iter([True, False, True])

    def lossy(request: httpx2.Request) -> httpx2.Response:
        answer = server(request)
        if next(lost, False):
            raise httpx2.ReadError("connection reset")
        return answer

    with server.sender(transport=httpx2.MockTransport(lossy)) as sender:
        drain = Drain(spool, sender)
        drain.run()
    assert (drain.report.stored, drain.report.extended, drain.report.duplicate) == (0, 0, 12)
    assert server.holds(spool.stream_id, numbered(made[:6]))


def test_clocks_of_every_kind_go_from_one_spool(spool: Spool, server: FaceServer, codec: FrameCodec) -> None:
    """Before the network is there, while the clock is a guess, and once it is set, which may be years on."""
    faces = [
        *(replace(captured(codec, n), clock=Clock.NONE, captured_ms=None) for n in range(3)),
        *(captured(codec, n, 1000 * n, clock=Clock.UNSYNCHRONIZED) for n in range(3, 6)),
        captured(codec, 6, 2**48 - 1),
        *(captured(codec, n) for n in range(7, 10)),
    ]
    fill(spool, faces)
    with server.sender() as sender:
        Drain(spool, sender).run()
    assert [len(arrival.frames) for arrival in server.arrivals] == [3, 3, 4, 3, 3, 4]
    assert server.holds(spool.stream_id, numbered(faces))
    clocks = {row.sequence: row.clock for row in server.store.page(0, 99)}
    assert [clocks[n] for n in range(10)] == [0] * 3 + [1] * 3 + [2] * 4


def test_gaps_of_over_17_minutes_are_sections_of_one_request(
    spool: Spool, server: FaceServer, codec: FrameCodec
) -> None:
    step = 2**20
    faces = [captured(codec, n, 10**12 + step * n * (n % 3)) for n in range(20)]
    fill(spool, faces)
    with server.sender() as sender:
        Drain(spool, sender).run()
    assert [len(arrival.frames) for arrival in server.arrivals] == [20, 20]
    assert server.holds(spool.stream_id, numbered(faces))


def test_the_last_numbers_there_are_can_be_sent(path: Path, server: FaceServer, made: Made) -> None:
    first = 2**53 - 5
    with Spool(path, "cam", start=first) as spool, server.sender() as sender:
        fill(spool, made[:5])
        server.script = [400]
        Drain(spool, sender).run()
        assert spool.status().waiting == 0
    assert server.holds(spool.stream_id, numbered(made[:5], first))
