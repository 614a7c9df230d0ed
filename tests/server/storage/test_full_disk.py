"""A store on a full disk: what was acknowledged stays, the rest is refused, and room is enough to go on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.installed import absent, need_program

FULL_DISK = """
import contextlib, subprocess, sys
from pathlib import Path
from edge_stscq.server.maintenance.inspection import inspect_store
from edge_stscq.server.storage.database import StoreError
from edge_stscq.server.storage.face_store import FaceName
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from edge_stscq.stream.envelope import device_stream_id
from tests.support.stored_faces import accept, device_frames
folder, way = Path(sys.argv[1]), sys.argv[2]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(folder)], check=True)
path, kept = folder / "faces.db", 0
store = SqlFaceStore(path)

def send():
    global kept
    results = accept(store, device_frames("cam", kept, *(bytes(15) for _ in range(50))))
    assert results == ["stored"] * 50
    kept += 50

send()
if way == "filled by others":
    with open(folder / "filler", "wb", 0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(4096))
with contextlib.suppress(StoreError):
    while True:
        send()
for tried in (send, store.check_writable):
    try:
        tried()
    except StoreError as error:
        assert "full" in str(error), error
    else:
        raise AssertionError(f"{tried} wrote on a full disk")
assert store.count() == kept, "what was refused is not there"
assert sum(device.faces for device in store.devices(0.0)) == kept
if way == "filled by others":
    (folder / "filler").unlink()
else:
    subprocess.run(["mount", "-o", "remount,size=16m", str(folder)], check=True)
store.check_writable()
send()
store.erase([FaceName(device_stream_id("cam"), 3)])
store.close()
found = inspect_store(path)
assert (found.whole, found.faces, found.erased) == (True, kept - 1, 1), found
print("went on")
"""


@pytest.mark.parametrize("way", ["filled by others", "filled by faces"])
def test_full_disk_keeps_what_was_acknowledged(way: str, tmp_path: Path) -> None:
    need_program("unshare", "apt-get install util-linux")
    command = ["unshare", "-Urm", sys.executable, "-c", FULL_DISK, str(tmp_path), way]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ":".join(sys.path)})
    if "unshare failed" in done.stderr or "Operation not permitted" in done.stderr:
        absent("a user namespace", "allow unprivileged ones (sysctl kernel.unprivileged_userns_clone=1)")
    assert done.stdout == "went on\n", done.stderr
