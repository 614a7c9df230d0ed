"""Damage in a spool is found and counted: no face is ever sent under another's envelope, and none for ever."""

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edge_stscq.client.drain import Drain
from edge_stscq.client.spool import LEAST_BYTES, Spool
from edge_stscq.errors import EdgeError
from edge_stscq.stream import FrameCodec
from edge_stscq.stream.envelope import WireFrame
from tests.client.face_server import FaceServer
from tests.client.filled import captured, fill

FACES = 4
COLUMNS = {
    "faces": ("sequence", "version", "model", "coder", "kind", "clock", "captured", "track", "quality", "extensions"),
    "basics": ("sequence", "frame"),
    "further": ("sequence", "frame"),
}


@pytest.fixture(scope="module")
def image(codec: FrameCodec, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, set[WireFrame]]:
    """A spool's file, and all frames in it."""
    path = tmp_path_factory.mktemp("spool") / "whole"
    faces = [captured(codec, n, track=n, quality=50 + n, extensions=b"\x05\x02\xca\xfe") for n in range(FACES)]
    with Spool(path, "cam") as spool:
        fill(spool, faces)
        spool._file.vacuum()
        frames = {frame for n, face in enumerate(faces) for frame in face.frames(spool.stream_id, "cam", n)}
    return path.read_bytes(), frames


def other_values(value: object) -> Iterator[object]:
    """The value with a bit of each of its bytes turned over, and other values of its type and of others."""
    if isinstance(value, bytes):
        for place in range(len(value)):
            yield value[:place] + bytes([value[place] ^ 1 << place % 8]) + value[place + 1 :]
        yield from (value[:-1], value + b"\0", b"")
    elif isinstance(value, int):
        yield from (value ^ 1 << bit for bit in range(64) if -(2**63) <= value ^ 1 << bit < 2**63)
        yield -1
    elif isinstance(value, float):
        yield from (value + 0.001, value - 1, -value, 0.0, 1e300, float("inf"), None)


def emptied(spool: Spool, whole: bool) -> list[WireFrame]:
    """All that the spool gives away, within a bounded number of requests."""
    got: list[WireFrame] = []
    for _ in range(10 * FACES):
        lease = spool.lease(2, 60, full_frames_only=whole)
        if lease is None:
            return got
        got += lease.frames
        spool.settle(lease)
    raise AssertionError("the same faces come again and again")


@pytest.mark.parametrize("whole", [False, True], ids=["basic first", "whole"])
@pytest.mark.parametrize(("table", "column"), [(table, column) for table in COLUMNS for column in COLUMNS[table]])
def test_a_changed_value_is_found_and_counted(
    path: Path, image: tuple[bytes, set[WireFrame]], table: str, column: str, whole: bool
) -> None:
    content, frames = image
    path.write_bytes(content)
    with closing(sqlite3.connect(path)) as db:
        (value,) = db.execute(f"SELECT {column} FROM {table} WHERE sequence = 1").fetchone()
    tried = 0
    for other in other_values(value):
        path.write_bytes(content)
        with closing(sqlite3.connect(path)) as db:
            try:
                with db:
                    db.execute(f"UPDATE {table} SET {column} = ? WHERE sequence = 1", (other,))
            except sqlite3.IntegrityError:
                continue  # of another face, or NULL where there is none
        tried += 1
        with Spool(path) as spool:
            got = emptied(spool, whole)
            state = spool.status()
        assert len(got) == len(set(got))
        assert set(got) <= frames
        assert (state.waiting, state.refused) == (0, 0)
        assert {one.number for one in got} >= {0, 2, 3}
        lost = 1 not in {one.number for one in got} if whole else len(got) < len(frames)
        if column == "version" and other != 1:
            assert (state.damaged, lost) == (0, False)  # it says how to send, and is no part of the face
        elif (table, column) == ("basics", "frame") and whole:
            assert (state.damaged, lost) == (0, False)  # not needed
        else:
            assert 1 <= state.damaged <= 3
            assert lost or whole
    assert tried >= 3


@pytest.mark.parametrize("column", ["device", "key", "seal", "max_bytes"])
def test_a_changed_state_is_no_reason_to_remove_faces(
    path: Path, image: tuple[bytes, set[WireFrame]], column: str
) -> None:
    """Every checksum depends on key and device: what looks like a spool full of damage is none."""
    content, frames = image
    values = {"device": ["cbm", "", "ca"], "max_bytes": [LEAST_BYTES - 1, 0, -1]}
    path.write_bytes(content)
    with closing(sqlite3.connect(path)) as db:
        (value,) = db.execute(f"SELECT {column} FROM state").fetchone()
    for other in values.get(column) or other_values(value):
        path.write_bytes(content)
        with closing(sqlite3.connect(path)) as db, db:
            db.execute(f"UPDATE state SET {column} = ?", (other,))
        with pytest.raises(EdgeError, match="is damaged .* left as it is; move it"):
            Spool(path)
        with closing(sqlite3.connect(path)) as db, db:
            db.execute(f"UPDATE state SET {column} = ?", (value,))
        with Spool(path) as spool:
            assert set(emptied(spool, whole=False)) == frames


@pytest.mark.parametrize("seed", range(4))
def test_flipped_bits_of_the_file_end_in_one_line_or_are_counted(
    path: Path, image: tuple[bytes, set[WireFrame]], seed: int
) -> None:
    """In rows, trees and definitions. Only the spool's own faces are sent, and none without end."""
    content, frames = image
    chance, ends = random.Random(seed), {"whole": 0, "counted": 0, "refused": 0}
    places = [place for place, byte in enumerate(content) if byte]
    for _ in range(250):
        damaged = bytearray(content)
        damaged[chance.choice(places)] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        path.with_name(path.name + "-wal").unlink(missing_ok=True)
        end, error = "refused", ""
        try:
            with Spool(path) as spool:
                assert set(emptied(spool, chance.random() < 0.3)) <= frames
                end = "counted" if spool.status().damaged else "whole"
        except EdgeError as raised:
            error = str(raised)
        assert "\n" not in error
        ends[end] += 1
    assert min(ends.values()) > 5


def test_a_drain_ends_though_every_face_is_damaged(path: Path, server: FaceServer, codec: FrameCodec) -> None:
    with Spool(path, "cam") as spool:
        for n in range(1500):
            spool.put(captured(codec, n % 5))
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("UPDATE faces SET quality = 7 WHERE sequence < 1490")
        with server.sender() as sender:
            drain = Drain(spool, sender, batch=1)
            drain.run()
        state = spool.status()
    assert (drain.report.faces, state.damaged, state.waiting) == (10, 2980, 0)


def test_faces_without_a_frame_and_frames_without_a_face_are_removed(
    path: Path, server: FaceServer, codec: FrameCodec
) -> None:
    with Spool(path, "cam") as spool:
        fill(spool, [captured(codec, n) for n in range(6)])
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("DELETE FROM faces WHERE sequence = 1")
            db.execute("DELETE FROM basics WHERE sequence IN (2, 3)")
            db.execute("DELETE FROM further WHERE sequence = 3")
        with server.sender() as sender:
            Drain(spool, sender).run()
        state = spool.status()
        assert (state.waiting, state.basic_waiting, state.damaged, state.delivered) == (0, 0, 3, 4)
        assert server.holds(spool.stream_id, {n: captured(codec, n) for n in (0, 2, 4, 5)})
