"""Keeper of a spool: faces wait in memory while the disk does not take them."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from demo_camera import keeper as module
from demo_camera.keeper import Keeper, KeptSpool
from edge_stscq.client.spool import Spool
from edge_stscq.client.spool_file import SpoolUnavailableError
from edge_stscq.errors import EdgeError
from edge_stscq.events.notices import Notices
from tests.client.filled import captured
from tests.demo_camera.service.doubles import CODEC, Said, capture, wait_for


@contextmanager
def keeping(path: Path, said: Said, most: int = 100) -> Iterator[Keeper]:
    keeper = Keeper(path, "door", 1 << 20, Notices(said), most_unkept=most, pause=0.02)
    keeper.start()
    try:
        yield keeper
    finally:
        keeper.finish()
        keeper.join(10)
        assert not keeper.is_alive()


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """A disk that is full while the list's only element is true."""
    full = [True]

    class FullSpool(Spool):
        def put(self, face: object) -> int:
            if full[0]:
                with self._file._named_errors():
                    raise sqlite3.OperationalError("database or disk is full")
            return super().put(face)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "Spool", FullSpool)
    return full


def test_full_disk_is_said_once_and_loses_nothing(tmp_path: Path, full_disk: list[bool]) -> None:
    said, path = Said(), tmp_path / "door.spool"
    with keeping(path, said) as keeper:
        for number in range(5):
            keeper.put(capture(number))
        wait_for(lambda: said.of("trouble"))
        assert keeper.unkept == 5
        full_disk[0] = False
        wait_for(lambda: keeper.waiting == 5)
    troubles = said.of("trouble")
    assert len(troubles) == 1 + len(said.of("over")) - 1
    assert "disk is full; check the disk and try again" in str(troubles[0]["text"])
    assert (keeper.lost, keeper.unkept) == (0, 0)
    with Spool(path) as spool:
        lease = spool.lease(10, 10, full_frames_only=True)
        assert lease is not None
        assert [frame.captured_ms for frame in lease.frames] == [captured(CODEC, n).captured_ms for n in range(5)]


def test_faces_beyond_the_memory_are_lost_oldest_first_and_counted(tmp_path: Path, full_disk: list[bool]) -> None:
    with keeping(tmp_path / "door.spool", Said(), most=3) as keeper:
        for number in range(5):
            keeper.put(capture(number))
        assert (keeper.unkept, keeper.lost) == (3, 2)
        full_disk[0] = False
        wait_for(lambda: keeper.waiting == 3)
    assert keeper.lost == 2


def test_faces_that_no_disk_took_until_the_end_are_said(
    tmp_path: Path, full_disk: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LAST_TRIES", 0.05)
    said = Said()
    with keeping(tmp_path / "door.spool", said) as keeper:
        keeper.put(capture(0))
    assert keeper.lost == 1
    assert said.of("trouble")[-1] == {"place": "faces of door", "text": "1 could not be written and are lost"}


def test_faces_that_the_spool_was_given_before_are_counted_and_not_kept_again(tmp_path: Path) -> None:
    path = tmp_path / "door.spool"
    for repeated in (0, 2):
        with keeping(path, Said()) as keeper:
            keeper.put(capture(0))
            keeper.put(capture(1))
            wait_for(lambda: keeper.unkept == 0)  # noqa: B023
        assert (keeper.repeated, keeper.lost) == (repeated, 0)
    with Spool(path) as spool:
        assert spool.waiting == 2


@contextmanager
def held(path: Path) -> Iterator[sqlite3.Connection]:
    """The write lock of a spool, as of another process."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other


@contextmanager
def kept_spool(path: Path, said: Said, *, live: bool, stopped: Callable[[], bool]) -> Iterator[KeptSpool]:
    with Spool(path, "door"):
        pass
    keeper = Keeper(path, "door", None, Notices(said), pause=0.02, again=SpoolUnavailableError)
    keeper.start()
    try:
        yield KeptSpool(keeper, live, stopped)
    finally:
        keeper.finish()
        keeper.join(10)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WAIT", 0.05)
    monkeypatch.setattr(module, "_LAST_TRIES", 0.2)


@pytest.mark.usefixtures("impatient")
def test_camera_goes_on_while_another_process_holds_its_spool(tmp_path: Path) -> None:
    said, path = Said(), tmp_path / "door.spool"
    with kept_spool(path, said, live=True, stopped=lambda: False) as outlet:
        outlet.put(capture(0))
        with Spool(path) as spool:
            assert spool.waiting == 1, "what was put is on the disk"
        with held(path):
            for number in range(1, 4):
                outlet.put(capture(number))
        outlet.close()
    assert [(trouble["place"], "another process holds" in str(trouble["text"])) for trouble in said.of("trouble")] == [
        ("spool door", True)
    ]
    with Spool(path) as spool:
        assert spool.waiting == 4


@pytest.mark.usefixtures("impatient")
def test_source_that_waits_is_kept_waiting_by_a_held_spool_until_it_is_stopped(tmp_path: Path) -> None:
    said, path, stopped = Said(), tmp_path / "door.spool", threading.Event()
    with kept_spool(path, said, live=False, stopped=stopped.is_set) as outlet, held(path):
        putting = threading.Thread(target=outlet.put, args=(capture(0),))
        putting.start()
        wait_for(lambda: said.of("trouble"))
        putting.join(0.3)
        assert putting.is_alive(), "a folder loses nothing by waiting"
        stopped.set()
        putting.join(10)
        assert not putting.is_alive()
        with pytest.raises(EdgeError, match="1 of the faces are not in .* and are lost .another process holds"):
            outlet.close()


@pytest.mark.usefixtures("impatient")
def test_spool_that_is_of_no_use_any_more_ends_it(tmp_path: Path) -> None:
    path = tmp_path / "door.spool"
    with kept_spool(path, Said(), live=True, stopped=lambda: False) as outlet:
        outlet.put(capture(0))
        path.rename(tmp_path / "elsewhere")
        with pytest.raises(EdgeError, match="was replaced or removed"):
            outlet.put(capture(1))
        with pytest.raises(EdgeError, match="1 of the faces are not in"):
            outlet.close()
