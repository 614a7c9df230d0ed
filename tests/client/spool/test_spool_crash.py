"""A spool outlives processes that die in the middle, and says what a disk did to it."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from edge_stscq.client.spool import Spool
from edge_stscq.errors import EdgeError
from edge_stscq.stream.envelope import CapturedFace
from tests.client.filled import fill

Made = list[CapturedFace]

WORKER = """
import sys
from pathlib import Path
from time import sleep
from edge_stscq.client.spool import Spool
from edge_stscq.stream.envelope import CapturedFace, Clock
path, model, *payloads = sys.argv[1:]
payloads = tuple(zip((1, 3), map(bytes.fromhex, payloads)))
face = CapturedFace(bytes.fromhex(model), payloads, 0, Clock.SYNCHRONIZED)
with Spool(Path(path), "cam") as spool:
    print("ready", flush=True)
    sys.stdin.readline()
    {work}
"""
PUT = "while True: print(spool.put(face), flush=True)"
LEASE = "while (lease := spool.lease(3, 600)): print(*range(lease.first, lease.last + 1), flush=True), sleep(0.01)"


def workers(count: int, work: str, path: Path, face: CapturedFace) -> list[subprocess.Popen[str]]:
    """As many processes at the same work, begun at the same time."""
    payloads = [data.hex() for _, data in face.payloads]
    command = [sys.executable, "-c", WORKER.format(work=work), path, face.model_id.hex(), *payloads]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(count)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return started


def test_two_processes_lease_different_faces(path: Path, made: Made) -> None:
    with Spool(path, "cam") as spool:
        fill(spool, made)
        got = [process.communicate(timeout=60)[0].split() for process in workers(2, LEASE, path, made[0])]
        assert sorted(map(int, got[0] + got[1])) == list(range(60))
        assert all(got)
        assert spool.status().leased == 60


def test_what_put_has_returned_survives_kill_9_and_no_number_comes_twice(path: Path, made: Made) -> None:
    numbers: list[int] = []
    for seconds in (0.01, 0.08, 0.2):
        pair = workers(2, PUT, path, made[0])
        time.sleep(seconds)
        for process in pair:
            os.kill(process.pid, signal.SIGKILL)
        for process in pair:
            lines = process.communicate(timeout=60)[0].splitlines(keepends=True)
            numbers += [int(line) for line in lines if line.endswith("\n")]
    assert len(set(numbers)) == len(numbers) > 10
    with Spool(path) as spool:
        lease = spool.lease(10**6, 60)
        assert lease is not None
        assert set(numbers) <= set(range(lease.first, lease.last + 1))
        assert lease.last - lease.first + 1 <= len(numbers) + 6
        assert {frame.payload for frame in lease.frames} == {made[0].payloads[0][1]}


def damage(path: Path, offset: int, junk: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(junk)


@pytest.mark.parametrize("offset", [0, 4096 + 8], ids=["header", "table"])
def test_a_damaged_file_is_named_and_left_as_it_is(path: Path, made: Made, offset: int) -> None:
    with Spool(path, "cam") as spool:
        fill(spool, made)
    damage(path, offset, b"\xee" * 2000)
    before = path.read_bytes()
    with pytest.raises(EdgeError, match="is damaged .* left as it is; move it"):
        Spool(path, "cam").purge()
    assert path.read_bytes()[4096 * 2 :] == before[4096 * 2 :]
    assert made[30].payloads[1][1] in before


def test_a_shortened_file_is_named(path: Path, made: Made) -> None:
    with Spool(path, "cam") as spool:
        fill(spool, made)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(EdgeError, match="is damaged"), Spool(path, "cam") as spool:
        fill(spool, made)


def test_a_frame_under_another_number_is_not_sent_and_counted(path: Path, made: Made) -> None:
    """Whole by itself, and of this model and stream: what a page that was written to the wrong place leaves."""
    with Spool(path, "cam") as spool:
        fill(spool, made[:4])
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("UPDATE basics SET frame = (SELECT frame FROM basics WHERE sequence = 1) WHERE sequence = 0")
        file.execute("UPDATE further SET frame = (SELECT frame FROM further WHERE sequence = 1) WHERE sequence = 2")
    with Spool(path, "cam") as spool:
        order = []
        while lease := spool.lease(9, 60):
            order.append((lease.part, lease.first, lease.last))
            spool.settle(lease)
        assert order == [("base", 1, 3), ("enhancement", 0, 1), ("enhancement", 3, 3)]
        assert (spool.status().damaged, spool.waiting) == (2, 0)


def test_files_that_are_no_spool_of_this_device_are_refused(tmp_path: Path, path: Path) -> None:
    with pytest.raises(EdgeError, match="there is no spool .* make one with"):
        Spool(path)
    assert not path.exists()
    with pytest.raises(EdgeError, match="cannot name a device"):
        Spool(path, "c m")
    with pytest.raises(EdgeError, match="too small"):
        Spool(path, "cam", max_bytes=100)
    with Spool(path, "cam"), pytest.raises(EdgeError, match="faces of device cam; give --device cam"):
        Spool(path, "door")
    with pytest.raises(EdgeError, match="cannot open the spool"):
        Spool(tmp_path, "cam")
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE t (x)")
    other.close()
    with pytest.raises(EdgeError, match="is not a spool"):
        Spool(tmp_path / "other.db", "cam")
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version=5")
    newer.close()
    with pytest.raises(EdgeError, match="of spool version 5, this program's is 4; upgrade edge-stscq"):
        Spool(path)
