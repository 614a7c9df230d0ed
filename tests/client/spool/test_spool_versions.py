"""Spools of earlier programs are taken over: what waits goes by version 1 of the wire, what comes by version 2."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from edge_stscq.client import spool_file
from edge_stscq.client.drain import Drain
from edge_stscq.client.spool import LEAST_BYTES, Spool
from edge_stscq.errors import EdgeError
from edge_stscq.protocol import FRAMES_PATH, REFUSED_REQUEST, STREAMS_PATH
from edge_stscq.stream import FrameCodec
from edge_stscq.stream.envelope import CapturedFace, Clock, device_stream_id
from edge_stscq.stream.frame import stream_header
from tests.client.face_server import FaceServer
from tests.client.filled import captured, coded, fill, write_old_spool

Made = list[CapturedFace]
pytestmark = pytest.mark.parametrize("version", [1, 2])


def came_by_version_1(codec: FrameCodec, seeds: range) -> dict[int, CapturedFace]:
    """Captured faces, by number, that a server makes of these."""
    return {
        number: replace(captured(codec, seed), clock=Clock.NONE, captured_ms=None) for number, seed in enumerate(seeds)
    }


def test_an_old_spool_is_taken_over(path: Path, codec: FrameCodec, made: Made, version: int) -> None:
    write_old_spool(path, version, codec, range(60), sent=2)
    old = [[codec.encode_frame(face) for face in coded(codec, n)] for n in range(60)]
    with Spool(path, "cam") as spool:
        state = spool.status()
        assert (state.next, state.waiting, state.basic_waiting, state.leased, state.oldest) == (60, 60, 58, 0, 5.0)
        assert (state.taken, state.delivered, state.refused) == (70, 10, 0)
        assert spool.put(made[0]) == 60
        first, second, third = (spool.lease(99, 60) for _ in range(3))
        assert first is not None
        assert (first.first, first.frames_1, first.frames) == (2, tuple(frames[0] for frames in old[2:]), ())
        assert second is not None
        assert (second.first, second.frames_1, len(second.frames)) == (60, (), 1)
        assert third is not None
        assert (third.first, third.frames_1) == (0, tuple(frames[1] for frames in old[:2]))
        key = spool.key
    with Spool(path, max_bytes=LEAST_BYTES) as spool:
        assert path.stat().st_size <= LEAST_BYTES
        assert (spool.status().next, spool.status().dropped, spool.key) == (61, 0, key)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("PRAGMA user_version").fetchall() == [(3,)]


def test_an_upgraded_spool_and_its_new_faces_reach_the_server(
    path: Path, server: FaceServer, codec: FrameCodec, made: Made, version: int
) -> None:
    """Of the first three faces, the server has got the basic layers from the earlier program."""
    with server.sender() as sender:
        frames = [codec.encode_frame(coded(codec, n)[0]) for n in range(3)]
        sender.send_version_1(stream_header(codec.model_id), frames, 0)
        write_old_spool(path, version, codec, range(10), sent=3)
        with Spool(path, "cam") as spool:
            assert fill(spool, made[20:25]) == [10, 11, 12, 13, 14]
            drain = Drain(spool, sender, batch=4)
            drain.run()
            assert (drain.report.faces, drain.report.refused, spool.status().waiting) == (15, 0, 0)
    device = device_stream_id("cam")
    assert server.holds(device, came_by_version_1(codec, range(10)))
    assert server.holds(spool.stream_id, {10 + n: face for n, face in enumerate(made[20:25])})
    assert {row.id for row in server.store.page(0, 99) if row.stream == device} == {f"cam-{n}" for n in range(10)}
    assert {arrival.path for arrival in server.arrivals} == {FRAMES_PATH, STREAMS_PATH}
    assert {n: dict(found) for n, found in server.results(device).items()} == {
        n: {"stored": 1, "extended": 1} for n in range(10)
    }


def test_an_older_server_gets_what_it_can_read(
    path: Path, server: FaceServer, codec: FrameCodec, made: Made, version: int
) -> None:
    write_old_spool(path, version, codec, range(10))
    server.old = True
    with Spool(path, "cam") as spool, server.sender() as sender:
        Drain(spool, sender).run()
        assert server.holds(device_stream_id("cam"), came_by_version_1(codec, range(10)))
        fill(spool, made[:2])
        with pytest.raises(EdgeError, match="update the server"):
            Drain(spool, sender).run()
        assert spool.waiting == 2


def test_old_faces_that_the_server_refuses_are_set_aside_one_by_one(
    path: Path, server: FaceServer, codec: FrameCodec, made: Made, version: int
) -> None:
    """Version 1 refuses a request as a whole: another face has number 5, as after a card was swapped."""
    with server.sender() as sender:
        sender.send_version_1(stream_header(codec.model_id), [codec.encode_frame(coded(codec, 40)[1])], 5)
        write_old_spool(path, version, codec, range(10))
        with Spool(path, "cam") as spool:
            fill(spool, made[:2])
            drain = Drain(spool, sender)
            drain.run()
            (refusal,) = spool.refusals()
            assert (refusal.number, refusal.code, refusal.reason[:4]) == (5, REFUSED_REQUEST, "409 ")
            assert (drain.report.faces, drain.report.refused) == (11, 1)
    assert server.holds(device_stream_id("cam"), came_by_version_1(codec, range(10)) | {
        5: replace(captured(codec, 40), clock=Clock.NONE, captured_ms=None)
    })  # fmt: skip
    assert server.holds(spool.stream_id, {10: made[0], 11: made[1]})


def test_an_upgrade_that_is_cut_off_leaves_the_old_file(
    path: Path, codec: FrameCodec, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_old_spool(path, version, codec, range(10))
    statements = spool_file._FROM_VERSION_2
    for cut in range(1, len(statements) + 1):
        monkeypatch.setattr(spool_file, "_FROM_VERSION_2", (*statements[:cut], "SELECT no_such_function()"))
        with pytest.raises(EdgeError, match="no such function"):
            Spool(path)
    monkeypatch.undo()
    with Spool(path) as spool:
        assert (spool.waiting, spool.status().next) == (10, 10)
