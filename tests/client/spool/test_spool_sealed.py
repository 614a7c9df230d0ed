"""A sealed spool gives back what was put, and its file tells nothing; damage and wrong secrets are named."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from edge_stscq.client.spool import Spool
from edge_stscq.errors import EdgeError
from edge_stscq.stream.envelope import CapturedFace, Clock

SECRET = b"0123456789abcdef0123456789abcdef"
MARK = b"a payload that nobody must find "


def face(number: int) -> CapturedFace:
    return CapturedFace(bytes(8), ((1, b"%d " % number + MARK), (2, b"%d " % number + MARK + MARK)), 1_700_000_000_000,
                        Clock.SYNCHRONIZED)  # fmt: skip


def raw(path: Path) -> bytes:
    return b"".join(one.read_bytes() for one in path.parent.glob(f"{path.name}*"))


def drained(spool: Spool) -> list[tuple[int, bytes]]:
    found = []
    while lease := spool.lease(3, 60):
        found += [(frame.number, frame.payload) for frame in lease.frames]
        spool.settle(lease)
    return found


EXPECTED = [(number, face(number).payloads[part][1]) for part in (0, 1) for number in range(7)]


def test_sealed_spool_gives_back_what_was_put(tmp_path: Path) -> None:
    path = tmp_path / "faces.spool"
    with Spool(path, "door", secret=SECRET) as spool:
        for number in range(7):
            assert spool.put(face(number)) == number
        assert MARK not in raw(path)
    with Spool(path, secret=SECRET) as spool:
        assert drained(spool) == EXPECTED
        assert spool.status().damaged == 0
        assert spool.status().delivered == 7
        assert MARK not in raw(path)
    assert SECRET not in raw(path)


def test_spool_in_the_clear_is_sealed(tmp_path: Path) -> None:
    path = tmp_path / "faces.spool"
    with Spool(path, "door") as spool:
        for number in range(8):
            spool.put(face(number))
        spool.purge(1)
        lease = spool.lease(2, 60)
        assert lease is not None
    assert MARK in raw(path)
    with Spool(path, secret=SECRET) as spool:
        assert MARK not in raw(path)
        spool.release(lease)
        assert [number for number, _ in drained(spool)] == [*range(1, 8)] * 2
        assert spool.status().damaged == 0


def test_sealed_spool_without_its_secret_reads_nothing(tmp_path: Path) -> None:
    path = tmp_path / "faces.spool"
    with Spool(path, "door", secret=SECRET) as spool:
        spool.put(face(0))
    with pytest.raises(EdgeError, match="is sealed; give the device's secret"):
        Spool(path)
    with pytest.raises(EdgeError, match="sealed with another secret"):
        Spool(path, secret=SECRET[::-1])
    with Spool(path, secret=SECRET) as spool:
        assert spool.waiting == 1


def test_process_that_has_the_spool_open_writes_nothing_in_the_clear(tmp_path: Path) -> None:
    path = tmp_path / "faces.spool"
    with Spool(path, "door") as before:
        before.put(face(0))
        with Spool(path, secret=SECRET) as spool:
            with pytest.raises(EdgeError, match="sealed meanwhile"):
                before.put(face(1))
            with pytest.raises(EdgeError, match="sealed meanwhile"):
                before.lease(9, 60)
            assert [number for number, _ in drained(spool)] == [0, 0]


def test_frame_that_was_changed_or_moved_is_removed_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "faces.spool"
    with Spool(path, "door", secret=SECRET) as spool:
        for number in range(3):
            spool.put(face(number))
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE basics SET frame = (SELECT frame FROM basics WHERE sequence = 1) WHERE sequence = 0")
        db.execute("UPDATE further SET frame = zeroblob(50) WHERE sequence = 2")
    with Spool(path, secret=SECRET) as spool:
        found = [number for number, _ in drained(spool)]
        assert sorted(found) == [0, 1, 1, 2]
        assert spool.status().damaged == 2


def test_sealing_killed_leaves_all_or_nothing_sealed(tmp_path: Path) -> None:
    """Killed while the frames are sealed, a spool is as it was, and sealed the next time."""
    path = tmp_path / "faces.spool"
    with Spool(path, "door") as spool:
        for number in range(7):
            spool.put(face(number))
    code = (
        "import os, signal, sys\nfrom edge_stscq.sealing import spool_seal\nfrom edge_stscq.client.spool import Spool\n"
        "seal, count = spool_seal.SpoolSeal.seal, []\n"
        "def killed(*given):\n    count.append(1)\n"
        "    if len(count) == 9: os.kill(os.getpid(), signal.SIGKILL)\n    return seal(*given)\n"
        "spool_seal.SpoolSeal.seal = killed\n"
        f"Spool(sys.argv[1], secret={SECRET!r})"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False, env={**os.environ})
    assert done.returncode == -signal.SIGKILL
    with Spool(path) as spool:
        assert spool.waiting == 7
    with Spool(path, secret=SECRET) as spool:
        assert MARK not in raw(path)
        assert drained(spool) == EXPECTED


def test_sealed_spool_keeps_to_its_bound(tmp_path: Path) -> None:
    with Spool(tmp_path / "faces.spool", "door", max_bytes=64 * 1024, secret=SECRET) as spool:
        for number in range(500):
            spool.put(face(number))
        status = spool.status()
        assert status.bytes <= status.max_bytes
        assert status.thinned + status.dropped > 0
        assert status.waiting + status.dropped == 500
