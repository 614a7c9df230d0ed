"""Whatever ends a capture, every outlet has the faces so far and is closed, and the first error is said."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from demo_camera.journal import MOST, Journal
from demo_camera.loop import CaptureLoop
from demo_camera.outlets import MOST_REFUSED, CropFolder, SpoolOutlet, record
from demo_camera.results import Capture
from demo_camera.sources import Picture, SourceCounters
from edge_stscq.client.spool import Spool
from edge_stscq.errors import EdgeError
from tests.demo_camera.conftest import Seen, Stage

MakeLoop = Callable[..., CaptureLoop]


class Scene:
    """A source of so many pictures with one person, that ends as a test says."""

    def __init__(self, stage: Stage, pictures: int, end: Exception | None = None) -> None:
        self.name, self.live, self.counters = "scene", True, SourceCounters()
        self._stage, self._pictures, self._end = stage, pictures, end
        self.closed = False

    def pictures(self) -> Iterator[Picture]:
        for _ in range(self._pictures):
            if self.closed:
                return
            yield self._stage.picture(Seen(100))
        if self._end is not None:
            raise self._end

    def close(self) -> None:
        self.closed = True


class Kept:
    """An outlet that remembers, and fails where it is told to."""

    def __init__(self, fails: str = "") -> None:
        self.faces: list[Capture] = []
        self.closed = 0
        self._fails = fails

    def put(self, capture: Capture) -> None:
        if self._fails == "put":
            raise EdgeError("no room to put")
        self.faces.append(capture)

    def poll(self) -> None:
        if self._fails == "poll":
            raise EdgeError("no server at poll")

    def close(self) -> None:
        self.closed += 1
        if self._fails == "close":
            raise EdgeError("no disk at close")


@pytest.mark.parametrize(
    ("end", "error"), [(None, None), (EdgeError("unplugged"), EdgeError), (MemoryError("a defect"), MemoryError)]
)
def test_every_end_keeps_the_faces_so_far(
    end: Exception | None, error: type[Exception] | None, loop: CaptureLoop, stage: Stage
) -> None:
    source, kept = Scene(stage, 5, end), [Kept(), Kept()]
    if error is None:
        record(loop, source, kept)
    else:
        with pytest.raises(error, match=str(end)):
            record(loop, source, kept)
    assert [(len(one.faces), one.closed) for one in kept] == [(1, 1), (1, 1)]
    assert source.closed


@pytest.mark.parametrize("fails", ["put", "poll", "close"])
def test_failing_outlet_keeps_nothing_from_the_others(fails: str, loop: CaptureLoop, stage: Stage) -> None:
    source, kept = Scene(stage, 50), [Kept(fails), Kept()]
    with pytest.raises(EdgeError, match=f"at {fails}|to {fails}"):
        record(loop, source, kept)
    assert (len(kept[1].faces), [one.closed for one in kept]) == (1, [1, 1])
    assert (loop.counters.pictures == 1) == (fails == "poll"), "nobody captures for nothing"


def test_errors_are_one_line_and_each_is_said_once(loop: CaptureLoop, stage: Stage) -> None:
    with pytest.raises(EdgeError) as raised:
        record(loop, Scene(stage, 5, EdgeError("unplugged")), [Kept("put"), Kept("put"), Kept("close")])
    assert str(raised.value) == "no room to put; then: unplugged; then: no disk at close"


def test_limit_ends_the_capture(make_loop: MakeLoop, stage: Stage) -> None:
    loop, kept, watched = make_loop(limit=2), Kept(), 0

    def watch(step: object) -> None:
        nonlocal watched
        watched += 1

    class Album(Scene):
        def pictures(self) -> Iterator[Picture]:
            while not self.closed:
                yield stage.photograph(Seen(100, who=1), Seen(300, who=2), Seen(500, who=3))

    record(loop, Album(stage, 0), [kept], watch)
    assert (len(kept.faces), loop.counters.faces, loop.counters.pictures, watched) == (2, 2, 1, 2)


@pytest.fixture
def captures(make_loop: MakeLoop, stage: Stage) -> list[Capture]:
    """Faces of five people."""
    loop = make_loop(base=True)
    return [loop.step(stage.photograph(Seen(100, who=who))).captures[0] for who in range(5)]


def test_spool_gets_no_face_twice_also_after_a_restart(captures: list[Capture], tmp_path: Path) -> None:
    path = tmp_path / "door.spool"
    for run, given in ((0, captures[:3]), (1, captures), (2, captures)):
        with Spool(path, "door-1") as spool:
            outlet = SpoolOutlet(spool, Journal.beside(path, spool.stream_id))
            for capture in given:
                outlet.put(capture)
            assert outlet.repeated == (0, 3, 5)[run]
            assert spool.waiting == (3, 5, 5)[run]
    assert (tmp_path / "door.spool.taken").stat().st_mode & 0o777 == 0o600


def test_journal_belongs_to_its_spool(captures: list[Capture], tmp_path: Path) -> None:
    Journal(tmp_path / "taken", bytes(16)).add(captures[0])
    assert Journal(tmp_path / "taken", bytes(16)).knows(captures[0])
    assert not Journal(tmp_path / "taken", bytes(15) + b"1").knows(captures[0]), "another spool has nothing of it"


def test_torn_journal_forgets_the_last_face_alone(captures: list[Capture], tmp_path: Path) -> None:
    path = tmp_path / "taken"
    journal = Journal(path, bytes(16))
    for capture in captures[:2]:
        journal.add(capture)
    path.write_bytes(path.read_bytes()[:-5])
    again = Journal(path, bytes(16))
    assert [again.knows(capture) for capture in captures[:3]] == [True, False, False]
    again.add(captures[2])
    assert Journal(path, bytes(16)).knows(captures[2])


def test_journal_is_bounded_and_remembers_the_latest(
    captures: list[Capture], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MOST * 16 <= 4 * 1024**2
    monkeypatch.setattr("demo_camera.journal.MOST", 4)
    path = tmp_path / "taken"
    for capture in captures:
        Journal(path, bytes(16)).add(capture)
    assert path.stat().st_size == 16 * (1 + 2)
    assert [Journal(path, bytes(16)).knows(capture) for capture in captures] == [False] * 3 + [True] * 2


def test_journal_that_cannot_be_written_is_one_line(captures: list[Capture], tmp_path: Path) -> None:
    journal = Journal(tmp_path / "taken", bytes(16))
    (tmp_path / "taken").unlink()
    with pytest.raises(EdgeError, match="cannot write .*taken: No such file"):
        journal.add(captures[0])
    with pytest.raises(EdgeError, match="cannot write .*No such file"):
        Journal(tmp_path / "nowhere" / "taken", bytes(16))
    with pytest.raises(EdgeError, match="cannot read .*Is a directory"):
        Journal(tmp_path, bytes(16))


def test_refused_faces_do_not_fill_the_disk(
    make_loop: MakeLoop, stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MOST_REFUSED * 50_000 < 64 * 1024**2
    monkeypatch.setattr("demo_camera.outlets.MOST_REFUSED", 3)
    folder = CropFolder(tmp_path / "refused", "--save-refused")
    loop = make_loop(on_refused=lambda name, judgement: folder.put_refused(judgement))
    for _ in range(9):
        loop.step(stage.photograph(Seen(100, refusal="too blurred")))
    assert sorted(path.name for path in (tmp_path / "refused").iterdir()) == [
        f"00000{number}-too-blurred.png" for number in range(3)
    ]
    assert loop.counters.rejected == {"too blurred": 9}


def test_crops_are_numbered_as_the_stream_and_do_not_mix(captures: list[Capture], tmp_path: Path) -> None:
    folder = CropFolder(tmp_path / "crops", "--save-crops")
    for capture in captures[:2]:
        folder.put(capture)
    assert sorted(path.name for path in (tmp_path / "crops").iterdir()) == ["000000.png", "000001.png"]
    with pytest.raises(EdgeError, match="holds files already, .* give --save-crops another"):
        CropFolder(tmp_path / "crops", "--save-crops")


def test_a_crop_of_the_same_pixels_at_another_time_is_another_face(
    loop: CaptureLoop, stage: Stage, tmp_path: Path
) -> None:
    faces = []
    for _ in range(2):
        loop.step(stage.picture(Seen(100)))
        faces += loop.finish()
    assert np.array_equal(faces[0].crop, faces[1].crop)
    journal = Journal(tmp_path / "taken", bytes(16))
    journal.add(faces[0])
    assert not journal.knows(faces[1])
