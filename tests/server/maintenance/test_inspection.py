"""Every damage of a store is named, repaired or caught, none is silent; what is whole is kept."""

import contextlib
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_stscq.errors import EdgeError
from edge_stscq.server.maintenance.inspection import inspect_store, repair_store
from edge_stscq.server.storage.erasure import erased_times_of
from edge_stscq.server.storage.face_store import FaceName, StoredFace
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from edge_stscq.stream.envelope import device_stream_id
from tests.support.stored_faces import accept, device_frames

OpenStore = Callable[[Path | str], SqlFaceStore]
CAM = device_stream_id("cam")


def faces_of(path: Path) -> dict[str, StoredFace]:
    with contextlib.closing(SqlFaceStore(path)) as store:
        return {face.id: face for face in store.page(-(2**63), 10_000)}


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A closed store of 300 faces, three of them erased."""
    path = tmp_path / "faces.db"
    with contextlib.closing(SqlFaceStore(path)) as store:
        accept(store, device_frames("cam", 0, *(bytes([65 + n % 26]) * (1 + n % 15) for n in range(300))))
        store.erase([FaceName(CAM, number) for number in (7, 8, 299)])
        store.keep_away("door", 1.0, 2.0)
    return path


def test_inspect_whole_store(place: str, open_store: OpenStore) -> None:
    store = open_store(place)
    accept(store, device_frames("cam", 0, b"a", b"b"))
    store.erase([FaceName(CAM, 0)])
    found = inspect_store(place)
    assert (found.whole, found.faces, found.erased) == (True, 1, 1)


def test_inspect_names_damage(filled: Path) -> None:
    with contextlib.closing(sqlite3.connect(filled)) as db, db:
        db.execute("UPDATE faces SET payload = x'00' WHERE sequence = 3")
        db.execute("UPDATE faces SET revision = 10000 WHERE sequence = 4")
    found = inspect_store(filled)
    assert (found.faces, [one.id for one in found.damaged]) == (295, ["cam-3", "cam-4"])
    assert "revision 10000 was never given" in found.damaged[1].reason
    assert not found.whole


def test_inspect_absent_store_makes_none(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="there is no store"):
        inspect_store(tmp_path / "faces.db")
    assert not list(tmp_path.iterdir())


def test_repair_keeps_what_is_whole(filled: Path) -> None:
    before = faces_of(filled)
    with contextlib.closing(sqlite3.connect(filled)) as db, db:
        db.execute("UPDATE faces SET layers = 2 WHERE sequence = 3")
    done = repair_store(filled)
    assert (done.kept, [one.id for one in done.lost]) == (296, ["cam-3"])
    after = faces_of(filled)
    assert after == {name: face for name, face in before.items() if name != "cam-3"}
    assert inspect_store(filled).whole
    with contextlib.closing(SqlFaceStore(filled)) as store:
        sent = ((7, b"HHHHHHHH"), (3, b"DDDD"), (900, b"n"))
        refused, mended, fresh = (accept(store, device_frames("cam", number, text))[0] for number, text in sent)
        assert (refused.code, mended, fresh) == ("erased", "stored", "stored")
        assert store.latest_revision() == 305, "revisions go on"
        with store.database.read() as db:
            assert erased_times_of(db) == {"door": [(1.0, 2.0)]}
    assert inspect_store(done.moved).damaged[0].id == "cam-3"


def test_repair_while_in_use_is_refused(filled: Path) -> None:
    with contextlib.closing(SqlFaceStore(filled)) as store:
        store.page(0, 1)
        with pytest.raises(EdgeError, match="is in use; stop the servers"):
            repair_store(filled)
        accept(store, device_frames("cam", 500, b"a"))
    assert sorted(path.name for path in filled.parent.iterdir()) == ["faces.db"]


def test_repair_foreign_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE mine (a)")
    with pytest.raises(EdgeError, match="is no store of this program"):
        repair_store(path)


@pytest.mark.parametrize("seed", range(12))
def test_random_damage_is_named_repaired_or_caught(filled: Path, tmp_path: Path, seed: int) -> None:
    """None is silent: each face of the damaged file is the one that was stored, or somebody says that it is not."""
    random_ = random.Random(seed)
    whole = faces_of(filled)
    damaged = tmp_path / f"{seed}" / "faces.db"
    damaged.parent.mkdir()
    shutil.copy(filled, damaged)
    data = bytearray(damaged.read_bytes())
    for _ in range(random_.choice((1, 3, 30))):
        at = random_.randrange(len(data))
        data[at : at + random_.choice((1, 1, 16, 512))] = random_.randbytes(random_.choice((1, 1, 16, 512)))
    damaged.write_bytes(data)
    try:
        told = not inspect_store(damaged).whole
    except EdgeError:
        told = True
    if not told:
        assert faces_of(damaged) == whole
        return
    try:
        done = repair_store(damaged)
    except EdgeError:
        assert damaged.read_bytes() == data or damaged.exists(), "refused, and left where it is"
        return
    assert inspect_store(damaged).whole
    after = faces_of(damaged)
    assert done.kept == len(after)
    assert {name: face.frame() for name, face in after.items()}.items() <= {
        name: face.frame() for name, face in whole.items()
    }.items(), "revisions and rows may be others"
    assert len(after) + len(done.lost) + done.unnamed >= len(whole), "what is missing is named"
