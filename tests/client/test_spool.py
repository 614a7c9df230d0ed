"""What was put is in the spool until a server has it; numbers never repeat; the room is bounded."""

import os
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from edge_stscq.client.spool import LEAST_BYTES, MAX_LEASES, Lease, Spool
from edge_stscq.errors import EdgeError, FrameError
from edge_stscq.stream import FrameCodec
from edge_stscq.stream.frame import _varint
from tests.client.filled import fill

Made = list[list[bytes]]


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def spool(path: Path, clock: Clock) -> Iterator[Spool]:
    with Spool(path, "cam", max_bytes=LEAST_BYTES, clock=clock) as opened:
        yield opened


def taken(lease: Lease | None) -> tuple[int, int, list[bytes]]:
    """First and last number and the frames."""
    assert lease is not None
    return lease.first, lease.last, list(lease.frames)


def test_basic_layers_of_all_come_before_the_rest_of_any(spool: Spool, codec: FrameCodec, made: Made) -> None:
    assert fill(spool, codec, made[:5]) == [0, 1, 2, 3, 4]
    order = []
    while lease := spool.lease(2, 60):
        order.append((lease.part, lease.first, lease.last))
        assert lease.frames == tuple(made[n][lease.part != "base"] for n in range(lease.first, lease.last + 1))
        done = spool.acknowledge(lease)
        assert done == (0 if lease.part == "base" else len(lease.frames))
        if len(order) == 4:
            assert spool.put_bytes(codec.model_id, made[5], 0.0) == 5
    assert order == [
        ("base", 0, 1), ("base", 2, 3), ("base", 4, 4), ("enhancement", 0, 1), ("base", 5, 5),
        ("enhancement", 2, 3), ("enhancement", 4, 5),
    ]  # fmt: skip
    state = spool.status()
    assert (state.waiting, state.taken, state.delivered) == (0, 6, 6)


def test_a_face_of_one_frame_is_done_when_that_is_sent(spool: Spool, codec: FrameCodec, made: Made) -> None:
    fill(spool, codec, [made[0][1:], made[1], made[2][:1]])
    lease = spool.lease(9, 60)
    assert taken(lease) == (0, 2, [made[0][1], made[1][0], made[2][0]])
    assert lease is not None
    assert spool.acknowledge(lease) == 2
    assert taken(spool.lease(9, 60)) == (1, 1, [made[1][1]])


def test_whole_faces_go_at_once(spool: Spool, codec: FrameCodec, made: Made) -> None:
    fill(spool, codec, [made[0], made[1][:1]])
    lease = spool.lease(9, 60, full_frames_only=True)
    assert taken(lease) == (0, 1, [made[0][1], made[1][0]])
    assert lease is not None
    assert spool.acknowledge(lease) == 2
    assert spool.waiting == 0


def test_request_carries_one_model_within_its_bytes(spool: Spool, codec: FrameCodec, made: Made) -> None:
    """A request carries one model without gaps within its bytes."""
    other = FrameCodec(codec.entropy, b"another!")
    fill(spool, codec, made[:2])
    spool.put_bytes(other.model_id, [other.encode_frame(codec.decode_frame(made[2][1])[0])], 0.0)
    assert taken(spool.lease(9, 60))[:2] == (0, 1)
    assert taken(spool.lease(9, 60))[:2] == (2, 2)
    fill(spool, codec, made[:6])
    middle = spool.lease(2, 60)
    assert taken(middle)[:2] == (3, 4)
    assert taken(spool.lease(1, 60))[:2] == (5, 5)
    assert middle is not None
    spool.release(middle)
    assert taken(spool.lease(9, 60))[:2] == (3, 4)
    assert taken(spool.lease(9, 60, max_bytes=2 * len(made[3][0]) - 1))[:2] == (6, 6)
    assert taken(spool.lease(9, 60, max_bytes=0))[:2] == (7, 7)


def test_numbers_go_on_after_restart_purge_and_a_later_start(path: Path, codec: FrameCodec, made: Made) -> None:
    with Spool(path, "cam") as spool:
        assert fill(spool, codec, made[:3]) == [0, 1, 2]
    with Spool(path, "cam") as spool:
        assert spool.purge(2) == 2
        assert spool.waiting == 1
        assert spool.purge() == 1
        assert fill(spool, codec, made[:2]) == [3, 4]
        lease = spool.lease(9, 60, full_frames_only=True)
        assert lease is not None
        spool.acknowledge(lease)
    with Spool(path) as spool:
        assert (spool.device, fill(spool, codec, made[:1])) == ("cam", [5])
    with Spool(path, start=100) as spool:
        assert fill(spool, codec, made[:1]) == [100]
    with Spool(path, start=7) as spool:
        assert fill(spool, codec, made[:1]) == [101]
        assert (spool.status().taken, spool.status().purged, spool.status().oldest) == (8, 3, 5.0)


def test_purged_faces_leave_no_bytes_on_the_disk(path: Path, codec: FrameCodec, made: Made) -> None:
    with Spool(path, "cam") as spool:
        fill(spool, codec, made[:20])
        assert made[7][1] in b"".join(file.read_bytes() for file in path.parent.iterdir())
        spool.purge()
        left = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert not [frames for frames in made[:20] if frames[1][2:40] in left]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_full_spool_thins_the_oldest_and_then_drops_them(spool: Spool, codec: FrameCodec, made: Made) -> None:
    sent = 40
    for number in range(2000):
        assert spool.put_bytes(codec.model_id, made[number % 60], 0.0) == number
        if number == sent - 1:
            while (lease := spool.lease(64, 60)) and lease.part == "base":
                spool.acknowledge(lease)
            assert lease is not None
            spool.release(lease)
        state = spool.status()
        assert state.bytes <= LEAST_BYTES
        assert state.dropped == 0 or state.thinned >= number - 30
        assert state.taken == state.waiting + state.delivered + state.dropped
    assert state.dropped > 50
    assert state.delivered == sent
    lease = spool.lease(2000, 60)
    assert taken(lease)[:2] == (sent + state.dropped, 1999)


def test_faces_on_lease_are_the_last_to_make_room(spool: Spool, codec: FrameCodec, made: Made) -> None:
    fill(spool, codec, made[:10])
    lease = spool.lease(10, 60)
    for number in range(2000):
        spool.put_bytes(codec.model_id, made[number % 60], 0.0)
    assert spool.status().dropped > 100
    assert lease is not None
    spool.acknowledge(lease)
    assert spool.status().leased == 0
    assert taken(spool.lease(10, 60, full_frames_only=True)) == (0, 9, [frames[1] for frames in made[:10]])


def test_spool_evicts_the_oldest_if_all_are_on_lease(spool: Spool, codec: FrameCodec, made: Made) -> None:
    """If all are on lease the oldest goes and the newest stays."""
    for number in range(2000):
        spool.put_bytes(codec.model_id, made[number % 60], 0.0)
        if number % 50 == 49:
            spool.lease(50, 60)
    state = spool.status()
    assert (state.dropped > 100, state.bytes <= LEAST_BYTES) == (True, True)
    assert state.leased == state.waiting == 2000 - state.dropped


def raw(codec: FrameCodec, layers: int, size: int) -> bytes:
    """A frame of `size` bytes; there are none of 134."""
    length = size - 6 if size < 134 else max(size - 7, 128)
    body = bytes([layers]) + _varint(length) + os.urandom(length)
    return body + zlib.crc32(body, zlib.crc32(codec.model_id)).to_bytes(4, "little")


def fill_with(spool: Spool, codec: FrameCodec, sizes: range, count: int, seed: int = 0) -> None:
    """Put faces whose frames have any of `sizes`, and lease, send, give back and forget some on the way."""
    random, held = Random(seed), list[Lease]()
    for _ in range(count):
        basic, whole = sorted(random.choices(sizes, k=2))
        spool.put_bytes(codec.model_id, [raw(codec, 1, basic), raw(codec, 3, whole)][: random.choice((1, 2, 2))], 0.0)
        if random.random() < 0.1 and (
            lease := spool.lease(random.randrange(1, 9), 60, full_frames_only=random.random() < 0.3)
        ):
            held.append(lease)
        if held and random.random() < 0.1:
            random.choice((spool.acknowledge, spool.release))(held.pop(random.randrange(len(held))))


@pytest.mark.parametrize("sizes", [range(16, 1001), range(16, 65), range(600, 1001)], ids=["any", "small", "large"])
def test_the_files_keep_to_the_bound_whatever_the_size_of_frames(path: Path, codec: FrameCodec, sizes: range) -> None:
    bound = 2 * LEAST_BYTES
    with Spool(path, "cam", max_bytes=bound) as spool:
        for seed in range(8):
            fill_with(spool, codec, sizes, 300, seed)
            assert spool.status().bytes <= bound
            assert path.stat().st_size <= bound
        assert spool.status().thinned > 0
        assert spool.status().bytes > 0.9 * bound
        assert path.with_name(path.name + "-wal").stat().st_size <= 1024**2
    with Spool(path, "cam", max_bytes=LEAST_BYTES) as spool:
        assert spool.status().bytes <= LEAST_BYTES
        assert path.stat().st_size <= LEAST_BYTES
        assert spool.waiting > 0


VERSION_1 = (Path(__file__).parent / "spool_version_1.sql").read_text()


def test_a_spool_of_version_1_is_taken_over(path: Path, codec: FrameCodec, made: Made) -> None:
    old = sqlite3.connect(path)
    old.executescript(VERSION_1)
    rows = [(n, codec.model_id, 5.0 + n, made[n][0] if n > 1 else None, made[n][1]) for n in range(60)]
    rows[7] = (*rows[7][:4], None)
    with old:
        old.executemany("INSERT INTO faces (sequence, model, captured, first, rest) VALUES (?, ?, ?, ?, ?)", rows)
        old.execute("UPDATE faces SET lease = 1, until = 1e9 WHERE sequence < 4")
        old.execute("UPDATE state SET next = 60, taken = 70, delivered = 10")
    old.close()
    with Spool(path, "cam") as spool:
        state = spool.status()
        assert (state.next, state.waiting, state.basic_waiting, state.leased, state.oldest) == (60, 60, 58, 0, 5.0)
        assert (state.taken, state.delivered) == (70, 10)
        assert taken(spool.lease(99, 60)) == (2, 59, [frames[0] for frames in made[2:]])
        assert taken(spool.lease(99, 60)) == (0, 1, [frames[1] for frames in made[:2]])
        assert spool.put_bytes(codec.model_id, made[0], 0.0) == 60
    with Spool(path, max_bytes=LEAST_BYTES) as spool:
        assert path.stat().st_size <= LEAST_BYTES
        assert (spool.status().next, spool.status().dropped) == (61, 0)


def test_there_are_not_more_leases_than_have_room(spool: Spool, clock: Clock, codec: FrameCodec, made: Made) -> None:
    fill(spool, codec, made * 2)
    leases = [spool.lease(1, 60) for _ in range(MAX_LEASES)]
    assert [lease.first for lease in leases if lease] == list(range(MAX_LEASES))
    assert spool.lease(1, 60) is None
    assert leases[3] is not None
    spool.release(leases[3])
    assert taken(spool.lease(1, 60))[0] == 3
    clock.now += 61
    assert taken(spool.lease(99, 60))[0] == 0


def test_a_face_larger_than_the_spool_is_refused(spool: Spool, codec: FrameCodec, made: Made) -> None:
    from edge_stscq.stream.frame import _crc

    body = b"\x03" + _varint(LEAST_BYTES) + bytes(LEAST_BYTES)
    fill(spool, codec, made[:2])
    with pytest.raises(EdgeError, match="does not fit into a spool"):
        spool.put_bytes(codec.model_id, [body + _crc(body, codec.model_id)], 0.0)
    assert (spool.waiting, spool.put_bytes(codec.model_id, made[2], 0.0)) == (2, 2)


def test_only_whole_frames_of_one_face_are_taken(spool: Spool, codec: FrameCodec, made: Made) -> None:
    basic, whole = made[0]
    for frames in ([], [whole, basic], [whole, whole], [basic, basic, whole]):
        with pytest.raises(EdgeError, match="rising layers"):
            spool.put_bytes(codec.model_id, frames, 0.0)
    for frame in (whole[:-1], whole + b"\x00", bytes([whole[0] ^ 1]) + whole[1:]):
        with pytest.raises(FrameError):
            spool.put_bytes(codec.model_id, [frame], 0.0)
    assert (spool.waiting, spool.status().next) == (0, 0)


def test_a_lease_ends(spool: Spool, clock: Clock, codec: FrameCodec, made: Made) -> None:
    fill(spool, codec, made[:3])
    dead = spool.lease(2, 60)
    assert dead is not None
    clock.now += 59.9
    assert taken(spool.lease(9, 60))[:2] == (2, 2)
    clock.now += 0.2
    late = spool.lease(9, 60)
    assert taken(late)[:2] == (0, 1)
    spool.release(dead)
    assert spool.lease(9, 60) is None
    assert (spool.status().leased, spool.waiting) == (3, 3)
    spool.acknowledge(dead)
    assert late is not None
    assert spool.acknowledge(late) == 0
    assert taken(spool.lease(9, 60)) == (0, 1, [made[0][1], made[1][1]])


def test_a_clock_that_goes_back_ends_leases(spool: Spool, clock: Clock, codec: FrameCodec, made: Made) -> None:
    fill(spool, codec, made[:1])
    assert spool.lease(1, 60) is not None
    clock.now -= 86400
    assert taken(spool.lease(1, 60))[0] == 0


@pytest.mark.parametrize("seconds", [0, -1, 3601, float("nan")])
def test_a_lease_is_not_for_ever(spool: Spool, seconds: float) -> None:
    with pytest.raises(EdgeError, match="a lease lasts"):
        spool.lease(1, seconds)


def test_put_takes_frames_of_one_model(path: Path, codec: FrameCodec, made: list[list[bytes]]) -> None:
    basic, whole = (
        codec.frame(face)
        for data in made[0] for face, _ in [codec.decode_frame(data)]
    )  # fmt: skip
    with Spool(path, "cam", clock=lambda: 7.0) as spool:
        assert [spool.put(whole), spool.put(basic, whole, captured_at=9.0)] == [0, 1]
        assert (spool.waiting, spool.status().oldest) == (2, 7.0)
        lease = spool.lease(2, 60)
        assert lease is not None
        assert lease.frames == (whole.data, basic.data)
        for frames in ([], [basic, whole._replace(model_id=bytes(8))]):
            with pytest.raises(EdgeError, match="one model"):
                spool.put(*frames)
