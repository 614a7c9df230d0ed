"""Faces that were put are in the spool until a server has them, and numbers never repeat."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread, Timer

import pytest

from edge_stscq.client.lease import Lease
from edge_stscq.client.spool import LEAST_BYTES, MAX_LEASES, Spool
from edge_stscq.client.spool_file import SpoolUnavailableError
from edge_stscq.errors import EdgeError
from edge_stscq.protocol import MAX_SEQUENCE
from edge_stscq.stream import FrameCodec
from edge_stscq.stream.envelope import CapturedFace, Clock, WireFrame
from edge_stscq.stream.wire import write_stream
from tests.client.fake_time import Time
from tests.client.filled import NOON, captured, fill

Made = list[CapturedFace]


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
def spool(path: Path, clock: Time) -> Iterator[Spool]:
    with Spool(path, "cam", max_bytes=LEAST_BYTES, clock=clock) as opened:
        yield opened


def span(lease: Lease | None) -> tuple[int, int]:
    assert lease is not None
    return lease.first, lease.last


def frame(spool: Spool, face: CapturedFace, number: int, layers: int) -> WireFrame:
    return next(one for one in face.frames(spool.stream_id, "cam", number) if one.layers == layers)


def only(face: CapturedFace, part: int) -> CapturedFace:
    """The face with one of its two frames."""
    return replace(face, payloads=(face.payloads[part],))


def test_basic_layers_of_all_come_before_the_rest_of_any(spool: Spool, made: Made) -> None:
    assert fill(spool, made[:5]) == [0, 1, 2, 3, 4]
    order = []
    while lease := spool.lease(2, 60):
        order.append((lease.part, lease.first, lease.last))
        layers = 1 if lease.part == "base" else 3
        numbers = range(lease.first, lease.last + 1)
        assert lease.frames == tuple(frame(spool, made[n], n, layers) for n in numbers)
        assert spool.settle(lease) == (0 if lease.part == "base" else len(lease.frames))
        if len(order) == 4:
            assert spool.put(made[5]) == 5
    assert order == [
        ("base", 0, 1), ("base", 2, 3), ("base", 4, 4), ("enhancement", 0, 1), ("base", 5, 5),
        ("enhancement", 2, 3), ("enhancement", 4, 5),
    ]  # fmt: skip
    state = spool.status()
    assert (state.waiting, state.taken, state.delivered) == (0, 6, 6)


def test_a_face_of_one_frame_is_done_when_that_is_sent(spool: Spool, made: Made) -> None:
    fill(spool, [only(made[0], 1), made[1], only(made[2], 0)])
    lease = spool.lease(9, 60)
    assert lease is not None
    assert [one.layers for one in lease.frames] == [3, 1, 1]
    assert spool.settle(lease) == 2
    lease = spool.lease(9, 60)
    assert lease is not None
    assert lease.frames == (frame(spool, made[1], 1, 3),)


def test_whole_faces_go_at_once(spool: Spool, made: Made) -> None:
    fill(spool, [made[0], only(made[1], 0)])
    lease = spool.lease(9, 60, full_frames_only=True)
    assert lease is not None
    assert lease.frames == (frame(spool, made[0], 0, 3), frame(spool, made[1], 1, 1))
    assert spool.settle(lease) == 2
    assert spool.waiting == 0


def test_what_has_no_answer_stays(spool: Spool, made: Made) -> None:
    fill(spool, [only(face, 0) for face in made[:6]])
    lease = spool.lease(9, 60)
    assert lease is not None
    assert spool.settle(lease, upto=4) == 4
    assert span(spool.lease(9, 60)) == (4, 5)


OTHER = {
    "model": {"model_id": b"another!"}, "coder": {"coder_id": b"learned!"}, "kind": {"kind": 1},
    "clock": {"clock": Clock.UNSYNCHRONIZED}, "no clock": {"clock": Clock.NONE, "captured_ms": None},
}  # fmt: skip


@pytest.mark.parametrize("other", OTHER.values(), ids=OTHER)
def test_a_request_carries_one_source(spool: Spool, made: Made, other: dict[str, object]) -> None:
    fill(spool, [*made[:2], replace(made[2], **other), made[3]])  # type: ignore[arg-type]
    assert [span(spool.lease(9, 60)) for _ in range(3)] == [(0, 1), (2, 2), (3, 3)]


def test_a_request_has_no_gaps(spool: Spool, made: Made) -> None:
    fill(spool, made[:6])
    middle = spool.lease(2, 60)
    assert span(middle) == (0, 1)
    assert span(spool.lease(1, 60)) == (2, 2)
    assert middle is not None
    spool.release(middle)
    assert span(spool.lease(9, 60)) == (0, 1)
    assert span(spool.lease(9, 60)) == (3, 5)


APART = {
    "an hour between": [{"captured_ms": NOON + 3_600_000 * n} for n in range(12)],
    "tracks in turn": [{"track": 50 * (n % 2)} for n in range(12)],
    "close together": [{} for _ in range(12)],
}


@pytest.mark.parametrize("envelopes", APART.values(), ids=APART)
def test_a_request_is_as_full_as_its_bytes_allow(
    spool: Spool, codec: FrameCodec, envelopes: list[dict[str, int]]
) -> None:
    """Sections that gaps and tracks need take room, too."""
    faces = [captured(codec, n, **envelope) for n, envelope in enumerate(envelopes)]
    fill(spool, faces)
    basics = [frame(spool, face, n, 1) for n, face in enumerate(faces)]
    end = 0
    while (lease := spool.lease(12, 60, max_bytes=400)) and lease.part == "base":
        assert len(write_stream(lease.frames, spool.key)) <= 400
        assert lease.frames == tuple(basics[end : lease.last + 1])
        end = lease.last + 1
        assert end == 12 or len(write_stream(basics[lease.first : end + 1], spool.key)) > 400
        spool.settle(lease)
    assert end == 12


def test_a_single_face_may_be_larger_than_what_is_asked_for(spool: Spool, made: Made) -> None:
    fill(spool, made[:2])
    assert span(spool.lease(9, 60, max_bytes=0)) == (0, 0)


def test_numbers_go_on_after_restart_purge_and_a_later_start(path: Path, made: Made) -> None:
    with Spool(path, "cam") as spool:
        assert fill(spool, made[:3]) == [0, 1, 2]
        key = spool.key
    with Spool(path, "cam") as spool:
        assert spool.purge(2) == 2
        assert spool.waiting == 1
        assert spool.purge() == 1
        assert fill(spool, made[:2]) == [3, 4]
        lease = spool.lease(9, 60, full_frames_only=True)
        assert lease is not None
        spool.settle(lease)
    with Spool(path) as spool:
        assert (spool.device, fill(spool, made[:1])) == ("cam", [5])
    with Spool(path, start=100) as spool:
        assert fill(spool, made[:1]) == [100]
    with Spool(path, start=7) as spool:
        assert fill(spool, made[:1]) == [101]
        state = spool.status()
        assert (state.taken, state.purged, state.oldest) == (8, 3, NOON / 1000)
        assert (spool.key, state.stream) == (key, spool.stream_id.hex())


def test_a_spool_made_anew_is_another_stream(path: Path) -> None:
    with Spool(path, "cam") as first, Spool(path.with_name("other.spool"), "cam") as second:
        assert first.stream_id != second.stream_id


def test_numbers_end_in_one_line(path: Path, made: Made) -> None:
    with Spool(path, "cam", start=MAX_SEQUENCE - 1) as spool:
        assert fill(spool, made[:2]) == [MAX_SEQUENCE - 1, MAX_SEQUENCE]
        with pytest.raises(EdgeError, match="has given all numbers .* go on with a new spool"):
            spool.put(made[2])
        lease = spool.lease(9, 60)
        assert lease is not None
        assert span(lease) == (MAX_SEQUENCE - 1, MAX_SEQUENCE)
        spool.settle(lease)
        assert (spool.waiting, spool.status().taken) == (2, 2)
    for start in (-1, MAX_SEQUENCE + 1, 2**63):
        with pytest.raises(EdgeError, match="numbers are 0 to"):
            Spool(path, start=start)


def test_purged_faces_leave_no_bytes_on_the_disk(path: Path, made: Made) -> None:
    payloads = [data for face in made[:20] for _, data in face.payloads]
    with Spool(path, "cam") as spool:
        fill(spool, made[:20])
        assert payloads[15] in b"".join(file.read_bytes() for file in path.parent.iterdir())
        spool.purge()
        left = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert not [data for data in payloads if len(data) > 40 and data[2:40] in left]
    assert path.stat().st_mode & 0o777 == 0o600


def test_there_are_not_more_leases_than_have_room(spool: Spool, clock: Time, made: Made) -> None:
    fill(spool, made * 2)
    leases = [spool.lease(1, 60) for _ in range(MAX_LEASES)]
    assert [lease.first for lease in leases if lease] == list(range(MAX_LEASES))
    assert spool.lease(1, 60) is None
    assert leases[3] is not None
    spool.release(leases[3])
    assert span(spool.lease(1, 60)) == (3, 3)
    clock.now += 61
    assert span(spool.lease(99, 60))[0] == 0


def test_only_one_or_two_frames_of_one_face_are_taken(spool: Spool, made: Made) -> None:
    basic, whole = made[0].payloads
    wrong = {
        (): "one or two frames, not as 0", (basic, basic, whole): "one or two frames, not as 3",
        (whole, basic): "rising layers", (whole, whole): "rising layers", ((0, b""),): "1 to 15 layers",
        ((16, b""),): "1 to 15 layers", ((1, bytes(2**14)),): "at most 16383 bytes",
    }  # fmt: skip
    for payloads, words in wrong.items():
        with pytest.raises(EdgeError, match=words):
            spool.put(replace(made[0], payloads=payloads))
    assert (spool.waiting, spool.status().next, spool.status().taken) == (0, 0, 0)


@pytest.mark.parametrize(
    ("envelope", "words"),
    [
        ({"captured_ms": None}, "exactly if its source has a clock"), ({"clock": Clock.NONE}, "exactly if"),
        ({"captured_ms": -1}, "time of capture -1"), ({"captured_ms": 2**48}, "time of capture"),
        ({"track": 2**32 - 1}, "track"), ({"track": -1}, "track -1"), ({"quality": 101}, "quality 101"),
        ({"quality": -1}, "quality -1"), ({"model_id": b"short"}, "a model id has 8 bytes"),
        ({"coder_id": b""}, "a coder id has 8 bytes"), ({"kind": 256}, "kind 256"),
        ({"extensions": b"\x01"}, "cut off"),
    ],
)  # fmt: skip
def test_an_envelope_that_cannot_be_is_refused_and_takes_no_number(
    spool: Spool, made: Made, envelope: dict[str, object], words: str
) -> None:
    with pytest.raises(EdgeError, match=words):
        spool.put(replace(made[0], **envelope))  # type: ignore[arg-type]
    assert (spool.waiting, spool.put(made[1])) == (0, 0)


def test_an_envelope_comes_back_as_it_was_put(spool: Spool, codec: FrameCodec) -> None:
    faces = [
        captured(codec, 0, 0, quality=0, track=0),
        captured(codec, 1, 2**48 - 1, quality=100, track=2**32 - 2),
        captured(codec, 2, 1_790_000_000_001),
        captured(codec, 3, extensions=b"\x05\x02\xca\xfe"),
    ]
    fill(spool, faces)
    lease = spool.lease(9, 60)
    assert lease is not None
    assert lease.frames == tuple(frame(spool, face, n, 1) for n, face in enumerate(faces))


def test_a_lease_ends(spool: Spool, clock: Time, made: Made) -> None:
    fill(spool, made[:3])
    dead = spool.lease(2, 60)
    assert dead is not None
    clock.now += 59.9
    assert span(spool.lease(9, 60)) == (2, 2)
    clock.now += 0.2
    late = spool.lease(9, 60)
    assert span(late) == (0, 1)
    spool.release(dead)
    assert spool.lease(9, 60) is None
    assert (spool.status().leased, spool.waiting) == (3, 3)
    spool.settle(dead)
    assert late is not None
    assert spool.settle(late) == 0
    again = spool.lease(9, 60)
    assert again is not None
    assert again.frames == tuple(frame(spool, made[n], n, 3) for n in (0, 1))


def test_a_clock_that_goes_back_ends_leases(spool: Spool, clock: Time, made: Made) -> None:
    fill(spool, made[:1])
    assert spool.lease(1, 60) is not None
    clock.now -= 86400
    assert span(spool.lease(1, 60)) == (0, 0)


@pytest.mark.parametrize("seconds", [0, -1, 3601, float("nan")])
def test_a_lease_is_not_for_ever(spool: Spool, seconds: float) -> None:
    with pytest.raises(EdgeError, match="a lease lasts"):
        spool.lease(1, seconds)


def write_for(path: Path, held: Event, until: Event) -> None:
    """Hold the lock of writers on a new file, as another process does that opens it at the same time."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        held.set()
        until.wait(60)


def test_a_new_spool_that_another_process_opens_is_waited_for(tmp_path: Path, made: Made) -> None:
    """A change to WAL does not wait for a writer by itself."""
    path, held, until = tmp_path / "new.spool", Event(), Event()
    path.touch(0o600)
    other = Thread(target=write_for, args=(path, held, until))
    other.start()
    held.wait(60)
    try:
        with pytest.raises(SpoolUnavailableError, match="another process holds"):
            Spool(path, "door-1", wait_seconds=0.1)
        Timer(0.2, until.set).start()
        with Spool(path, "door-1") as spool:
            spool.put(made[0])
            assert spool.waiting == 1
    finally:
        until.set()
        other.join()
