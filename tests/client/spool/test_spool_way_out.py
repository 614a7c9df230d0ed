"""A spool can be emptied whatever is short, leaves nothing when it says so, and does not write where nobody reads."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from edge_stscq.client import spool_file
from edge_stscq.client.spool import Spool
from edge_stscq.client.spool_file import RESERVE
from edge_stscq.errors import EdgeError
from edge_stscq.protocol import RefusedFrame
from edge_stscq.stream.envelope import CapturedFace
from tests.support.installed import absent, need_program

FULL_DISK = """
import subprocess, sys
from pathlib import Path
from edge_stscq.client.spool import Spool
from edge_stscq.client.spool_file import FullDiskError
from tests.client.filled import captured
from tests.support.streams import long_codec
folder, way = Path(sys.argv[1]), sys.argv[2]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(folder)], check=True)
path, codec = folder / "faces.spool", long_codec()
spool = Spool(path, "cam")
for number in range(200):
    spool.put(captured(codec, number))
with open(folder / "filler", "wb", 0) as filler:
    try:
        while True:
            filler.write(bytes(4096))
    except OSError:
        pass
kept = 200
try:
    while True:
        spool.put(captured(codec, 1))
        kept += 1
except FullDiskError as error:
    assert "is full" in str(error) and "make room" in str(error), error
assert spool.waiting == kept
if way == "reopened":
    spool._file.close()
    spool = Spool(path)
if way == "settled":
    done = 0
    while (lease := spool.lease(64, 60, full_frames_only=True)) is not None:
        done += spool.settle(lease)
    assert done == kept
else:
    assert spool.purge() == kept
assert spool.waiting == 0
spool.put(captured(codec, 2))
(folder / "filler").unlink()
with Spool(path) as again:
    assert again.waiting == 1
assert (folder / "faces.spool-reserve").exists()
print("emptied")
"""


@pytest.mark.parametrize("way", ["purged", "reopened", "settled"])
def test_full_disk_empties(way: str, tmp_path: Path) -> None:
    need_program("unshare", "apt-get install util-linux")
    command = ["unshare", "-Urm", sys.executable, "-c", FULL_DISK, str(tmp_path), way]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ":".join(sys.path)})
    if "unshare failed" in done.stderr or "Operation not permitted" in done.stderr:
        absent("a user namespace", "allow unprivileged ones (sysctl kernel.unprivileged_userns_clone=1)")
    assert done.stdout == "emptied\n", done.stderr


def test_purge_beside_a_reader_says_what_remains(
    path: Path, made: list[CapturedFace], monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect
    monkeypatch.setattr(spool_file.sqlite3, "connect", lambda path, **more: connect(path, **more | {"timeout": 0.1}))
    with Spool(path, "cam") as spool:
        for face in made[:9]:
            spool.put(face)
        with contextlib.closing(connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM faces").fetchone()
            with pytest.raises(EdgeError, match=r"faces are removed, but their bytes stay in its -wal file while"):
                spool.purge()
        assert spool.waiting == 0
        assert spool.purge() == 0
        payload = made[0].payloads[-1][1]
        assert not any(payload in found.read_bytes() for found in path.parent.iterdir())


@pytest.mark.parametrize("how", ["replaced", "removed"])
def test_put_into_a_file_that_nobody_finds_fails(how: str, path: Path, made: list[CapturedFace]) -> None:
    with Spool(path, "cam") as spool:
        spool.put(made[0])
        if how == "replaced":
            shutil.copy(path, path.with_name("copy"))
            path.with_name("copy").replace(path)
        else:
            path.unlink()
        with pytest.raises(EdgeError, match="was replaced or removed while it was open"):
            spool.put(made[1])


def test_face_that_the_server_erased_leaves_the_spool(path: Path, made: list[CapturedFace]) -> None:
    with Spool(path, "cam") as spool:
        for face in made[:3]:
            spool.put(face)
        lease = spool.lease(9, 60)
        assert lease is not None
        erased = RefusedFrame(stream=spool.stream_id.hex(), number=1, code="erased", reason="the face was erased")
        spool.settle(lease, {1: erased})
        state = spool.status()
        assert (state.waiting, state.refused, state.purged) == (2, 0, 1)
        rest = spool.lease(9, 60)
        assert rest is not None
        assert (rest.first, rest.last) == (0, 0), "its further layers went with it"


def test_reserve_is_laid_where_there_is_room(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reserve = path.with_name("faces.spool-reserve")
    with monkeypatch.context() as patched:
        patched.setattr(spool_file, "_free_bytes", lambda path: RESERVE)
        Spool(path, "cam")._file.close()
        assert not reserve.exists()
    Spool(path)._file.close()
    assert (reserve.stat().st_size, reserve.stat().st_mode & 0o777) == (RESERVE, 0o600)
