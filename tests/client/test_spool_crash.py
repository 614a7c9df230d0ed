"""A spool outlives processes that die in the middle, and says what a disk did to it."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_stscq.client.spool import Spool
from edge_stscq.errors import EdgeError
from edge_stscq.stream import FrameCodec
from tests.client.filled import fill

Made = list[list[bytes]]

WORKER = """
import sys
from pathlib import Path
from time import sleep
from edge_stscq.client.spool import Spool
path, model, *frames = sys.argv[1:]
frames = [bytes.fromhex(frame) for frame in frames]
with Spool(Path(path), "cam") as spool:
    print("ready", flush=True)
    sys.stdin.readline()
    {work}
"""
PUT = "while True: print(spool.put_bytes(bytes.fromhex(model), frames, 0.0), flush=True)"
LEASE = "while (lease := spool.lease(3, 600)): print(*range(lease.first, lease.last + 1), flush=True), sleep(0.01)"


def workers(count: int, work: str, path: Path, codec: FrameCodec, frames: list[bytes]) -> list[subprocess.Popen[str]]:
    """As many processes at the same work, begun at the same time."""
    command = [sys.executable, "-c", WORKER.format(work=work), path, codec.model_id.hex(), *(f.hex() for f in frames)]
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


def test_two_processes_lease_different_faces(path: Path, codec: FrameCodec, made: Made) -> None:
    with Spool(path, "cam") as spool:
        fill(spool, codec, made)
        got = [process.communicate(timeout=60)[0].split() for process in workers(2, LEASE, path, codec, made[0])]
        assert sorted(map(int, got[0] + got[1])) == list(range(60))
        assert all(got)
        assert spool.status().leased == 60


def test_what_put_has_returned_survives_kill_9(path: Path, codec: FrameCodec, made: Made) -> None:
    """A face that put has returned survives kill -9, and no number comes twice."""
    numbers: list[int] = []
    for seconds in (0.01, 0.08, 0.2):
        pair = workers(2, PUT, path, codec, made[0])
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
        assert set(lease.frames) == {made[0][0]}


def damage(path: Path, offset: int, junk: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(junk)


@pytest.mark.parametrize("offset", [0, 4096 + 8], ids=["header", "table"])
def test_a_damaged_file_is_named_and_left_as_it_is(path: Path, codec: FrameCodec, made: Made, offset: int) -> None:
    with Spool(path, "cam") as spool:
        fill(spool, codec, made)
    damage(path, offset, b"\xee" * 2000)
    before = path.read_bytes()
    with pytest.raises(EdgeError, match="is damaged .* left as it is; move it"):
        Spool(path, "cam").purge()
    assert path.read_bytes()[4096 * 2 :] == before[4096 * 2 :]
    assert made[30][1] in before


def test_a_shortened_file_is_named(path: Path, codec: FrameCodec, made: Made) -> None:
    with Spool(path, "cam") as spool:
        fill(spool, codec, made)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(EdgeError, match="is damaged"), Spool(path, "cam") as spool:
        fill(spool, codec, made)


def test_a_frame_that_changed_on_disk_is_not_sent_and_counted(path: Path, codec: FrameCodec, made: Made) -> None:
    with Spool(path, "cam") as spool:
        fill(spool, codec, made[:4])
    file = sqlite3.connect(path)
    with file:
        file.execute("UPDATE basics SET frame = ? WHERE sequence = 0", (made[0][0][:-1] + b"\x00",))
        file.execute("UPDATE further SET frame = ? WHERE sequence = 2", (made[1][1][:-1] + b"\x00",))
    file.close()
    with Spool(path, "cam") as spool:
        order = []
        while lease := spool.lease(9, 60):
            order.append((lease.part, lease.first, lease.last))
            spool.acknowledge(lease)
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
    newer.execute("PRAGMA user_version=3")
    newer.close()
    with pytest.raises(EdgeError, match="of spool version 3"):
        Spool(path)
