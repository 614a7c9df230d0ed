"""Worker of all cameras: turns, failures, the end of visits."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from demo_camera.keeper import Keeper
from demo_camera.service.lane import Lane
from demo_camera.service.reader import Reader
from demo_camera.service.worker import Worker
from edge_stscq.client.spool import Spool
from edge_stscq.events.notices import Notices
from tests.demo_camera.service.doubles import FakeLoop, FakeSource, Said, wait_for


class Bench:
    """Worker of some cameras without spools' threads."""

    def __init__(self, folder: Path, sources: dict[str, FakeSource]) -> None:
        self.said, self.stopping, arrived = Said(), threading.Event(), threading.Condition()
        notices = Notices(self.said)
        self.loops = {name: FakeLoop() for name in sources}
        self.lanes = {
            name: Lane(
                Reader(name, opener(source), arrived, self.stopping, notices),
                self.loops[name],
                Keeper(folder / name, name, 1 << 20, notices),
                None,
            )
            for name, source in sources.items()
        }
        self.tracks: list[tuple[str, str, int]] = []
        self.worker = Worker(
            list(self.lanes.values()), arrived, self.stopping, notices, self.said,
            lambda name, event: self.tracks.append((name, event.kind, event.track)),
        )  # fmt: skip

    @contextmanager
    def running(self) -> "Iterator[Bench]":
        for lane in self.lanes.values():
            lane.reader.start()
        self.worker.start()
        try:
            yield self
        finally:
            self.stop()

    def stop(self) -> None:
        self.stopping.set()
        for lane in self.lanes.values():
            lane.reader.close()
        self.worker.join(10)
        assert not self.worker.is_alive()


def opener(source: FakeSource) -> Callable[[], FakeSource]:
    return lambda: source


def test_cameras_take_turns_however_fast_one_is(tmp_path: Path) -> None:
    order: list[str] = []
    sources = {name: FakeSource(live=False) for name in "abc"}
    bench = Bench(tmp_path, dict(sources))
    for name, loop in bench.loops.items():
        loop.seen = order
        sources[name].give(*(f"{name}{n}" for n in range(20 if name == "a" else 2)))
    for lane in bench.lanes.values():
        lane.reader.start()
    wait_for(lambda: all(lane.reader.waiting for lane in bench.lanes.values()))
    bench.worker.start()
    wait_for(lambda: len(order) == 24)
    bench.stop()
    assert order[:3] == ["a0", "b0", "c0"]
    assert max(order.index("b1"), order.index("c1")) < order.index("a19"), "as soon as their readers have them"


def test_camera_without_pictures_holds_up_no_other(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"silent": FakeSource(), "busy": FakeSource(live=False).give("1", "2", "3")})
    with bench.running():
        wait_for(lambda: bench.loops["busy"].seen == ["1", "2", "3"])
    assert bench.loops["silent"].seen == ["end"]


def test_picture_that_a_loop_fails_at_is_counted_said_once_and_survived(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"door": FakeSource(live=False).give("odd", "odd", "face", None)})
    with bench.running():
        wait_for(lambda: bench.worker.idle)
    assert bench.lanes["door"].failures == 2
    assert [event for event, _ in bench.said.events] == ["trouble", "over", "face"]


def test_visits_end_with_the_source_and_with_everything(tmp_path: Path) -> None:
    broken = FakeSource(live=False).give("visit", "visit", None)
    bench = Bench(tmp_path, {"film": broken, "door": FakeSource(live=False).give("visit")})
    with bench.running():
        wait_for(lambda: bench.lanes["film"].keeper.unkept == 2)
        wait_for(lambda: "visit" in bench.loops["door"].seen)
        assert bench.lanes["door"].keeper.unkept == 0
    assert bench.lanes["door"].keeper.unkept == 1
    assert [one for one in bench.tracks if one[0] == "door"] == [("door", "new", 0), ("door", "end", 0)]


def test_status_has_the_figures_of_all_parts(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"door": FakeSource(live=False).give("face", "wall", "visit", None)})
    with bench.running():
        wait_for(lambda: bench.worker.idle)
    status = bench.lanes["door"].status()
    assert (status.name, status.state, status.pictures, status.faces) == ("door", "ended", 3, 2)
    assert (status.refused, status.tracks, status.unkept, status.damaged) == ({"no face": 1}, 1, 2, 1)
    assert status.seconds > 0


def test_keeper_writes_what_the_worker_gave(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"door": FakeSource(live=False).give("face", "face", None)})
    keeper = bench.lanes["door"].keeper
    keeper.start()
    with bench.running():
        wait_for(lambda: keeper.waiting == 2)
    keeper.finish()
    keeper.join(10)
    with Spool(keeper.path) as spool:
        assert (spool.device, spool.waiting) == ("door", 2)
