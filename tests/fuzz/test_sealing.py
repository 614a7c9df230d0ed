"""Checksums are made right as far as a file can be followed, and then two readers agree about what it says."""

import random

import pytest

from edge_stscq.errors import EdgeError
from edge_stscq.stream.wire import read_frames
from fuzz.sealing import sealed
from fuzz.seeds import files
from tests.stream import independent_reader
from tests.support.wire_vectors import described

FILES = files()


@pytest.mark.parametrize("data", FILES, ids=range(len(FILES)))
def test_a_whole_file_stays_as_it_is(data: bytes) -> None:
    assert sealed(data) == data


def test_any_change_of_what_a_checksum_covers_is_made_up_for() -> None:
    """Of a payload, since any payload is one; of fields, where it makes no other mistake."""
    good = FILES[2]
    frames = [frame for _, frame in read_frames(good)]
    for place in range(len(good) - 30, len(good) - 4):
        changed = good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :]
        with pytest.raises(EdgeError):
            list(read_frames(changed))
        read = [frame for _, frame in read_frames(sealed(changed))]
        assert read[:-1] == frames[:-1]
        assert read[-1] != frames[-1]


JUNK = (b"", b"STSQ", b"STSQ\x01", b"STSQ\x02\x00", b"STSQ\x02\x01", b"\x00" * 99, b"\xff" * 99)


@pytest.mark.parametrize("junk", JUNK)
def test_what_is_no_file_stays_what_it_is(junk: bytes) -> None:
    assert len(sealed(junk)) == len(junk)
    with pytest.raises(EdgeError):
        list(read_frames(sealed(junk)))


def changed(data: bytes, draw: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(draw.randint(1, 3)):
        place, kind = draw.randrange(len(out)), draw.randrange(5)
        if kind == 0:
            out[place] = draw.randrange(256)
        elif kind == 1:
            out[place] ^= 1 << draw.randrange(8)
        elif kind == 2:
            del out[place : place + draw.randint(1, 9)]
        elif kind == 3:
            out[place:place] = draw.randbytes(draw.randint(1, 4))
        else:
            out[place : place + 2] = draw.choice((b"\x80\x00", b"\xff\xff", b"\x85\x00", b"\x00\x00", b"\x81\x05"))
        if not out:
            break
    return bytes(out)


def test_two_readers_agree_on_files_under_right_checksums() -> None:
    """One of them was written from the specification alone; it refuses what a header's critical extension refuses."""
    draw, accepted, refused = random.Random(1), 0, 0
    for _ in range(6000):
        data = sealed(changed(draw.choice(FILES[1:]), draw))
        try:
            ours = list(read_frames(data))
        except EdgeError:
            ours = None
        try:
            theirs = independent_reader.read(data)
        except ValueError as error:
            if "unknown-extension in a header" in str(error):
                continue
            theirs = None
        assert (ours and [described(frame) for _, frame in ours]) == theirs, data.hex()
        accepted += ours is not None
        refused += ours is None
    assert min(accepted, refused) > 500
