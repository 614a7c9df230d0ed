"""The room is bounded: the oldest faces are thinned, then dropped, and those on lease last."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from edge_stscq.client.lease import Lease
from edge_stscq.client.spool import LEAST_BYTES, Spool
from edge_stscq.stream.envelope import MAX_PAYLOAD, CapturedFace
from tests.client.filled import fill

Made = list[CapturedFace]


@pytest.fixture
def spool(path: Path) -> Iterator[Spool]:
    with Spool(path, "cam", max_bytes=LEAST_BYTES) as opened:
        yield opened


def test_a_full_spool_thins_the_oldest_and_then_drops_them(spool: Spool, made: Made) -> None:
    sent = 40
    for number in range(2000):
        assert spool.put(made[number % 60]) == number
        if number == sent - 1:
            while (lease := spool.lease(64, 60)) and lease.part == "base":
                spool.settle(lease)
            assert lease is not None
            spool.release(lease)
        state = spool.status()
        assert state.bytes <= LEAST_BYTES
        assert state.dropped == 0 or state.thinned >= number - 30
        assert state.taken == state.waiting + state.delivered + state.dropped
    assert state.dropped > 50
    assert state.delivered == sent
    lease = spool.lease(2000, 60)
    assert lease is not None
    assert (lease.first, lease.last) == (sent + state.dropped, 1999)


def test_faces_on_lease_are_the_last_to_make_room(spool: Spool, made: Made) -> None:
    fill(spool, made[:10])
    lease = spool.lease(10, 60)
    for number in range(2000):
        spool.put(made[number % 60])
    assert spool.status().dropped > 100
    assert lease is not None
    spool.settle(lease)
    assert spool.status().leased == 0
    kept = spool.lease(10, 60, full_frames_only=True)
    assert kept is not None
    assert (kept.first, [one.payload for one in kept.frames]) == (0, [face.payloads[1][1] for face in made[:10]])


def test_if_all_are_on_lease_the_oldest_goes_and_the_newest_stays(spool: Spool, made: Made) -> None:
    for number in range(2000):
        spool.put(made[number % 60])
        if number % 50 == 49:
            spool.lease(50, 60)
    state = spool.status()
    assert (state.dropped > 100, state.bytes <= LEAST_BYTES) == (True, True)
    assert state.leased == state.waiting == 2000 - state.dropped


def fill_with(spool: Spool, made: Made, sizes: range, count: int, seed: int = 0) -> None:
    """Put faces whose payloads have any of `sizes`, and lease, send, give back and forget some on the way."""
    random, held = Random(seed), list[Lease]()
    for number in range(count):
        basic, whole = sorted(random.choices(sizes, k=2))
        payloads = ((1, os.urandom(basic)), (3, os.urandom(whole)))[: random.choice((1, 2, 2))]
        spool.put(replace(made[number % 60], payloads=payloads))
        if random.random() < 0.1 and (
            lease := spool.lease(random.randrange(1, 9), 60, full_frames_only=random.random() < 0.3)
        ):
            held.append(lease)
        if held and random.random() < 0.1:
            random.choice((spool.settle, spool.release))(held.pop(random.randrange(len(held))))


@pytest.mark.parametrize("sizes", [range(10, 1001), range(10, 60), range(600, 1001)], ids=["any", "small", "large"])
def test_the_files_keep_to_the_bound_whatever_the_size_of_frames(path: Path, made: Made, sizes: range) -> None:
    bound = 2 * LEAST_BYTES
    with Spool(path, "cam", max_bytes=bound) as spool:
        for seed in range(8):
            fill_with(spool, made, sizes, 300, seed)
            assert spool.status().bytes <= bound
            assert path.stat().st_size <= bound
        assert spool.status().thinned > 0
        assert spool.status().bytes > 0.9 * bound
        assert path.with_name(path.name + "-wal").stat().st_size <= 1024**2
    with Spool(path, "cam", max_bytes=LEAST_BYTES) as spool:
        assert spool.status().bytes <= LEAST_BYTES
        assert path.stat().st_size <= LEAST_BYTES
        assert spool.waiting > 0


def test_the_largest_face_there_can_be_fits_into_the_smallest_spool(spool: Spool, made: Made) -> None:
    fill(spool, made * 5)
    large = ((1, bytes(MAX_PAYLOAD)), (3, bytes(MAX_PAYLOAD)))
    number = spool.put(replace(made[2], payloads=large))
    last = spool.lease(9999, 60, full_frames_only=True)
    assert last is not None
    assert (last.last, last.frames[-1].payload) == (number, bytes(MAX_PAYLOAD))
    assert spool.status().bytes <= LEAST_BYTES
