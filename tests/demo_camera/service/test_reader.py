"""Reader of one camera: newest picture, back-off, state."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from demo_camera.service.reader import Interrupted, Reader, State
from edge_stscq.errors import EdgeError
from edge_stscq.events.notices import Notices
from tests.demo_camera.service.doubles import FakeSource, Said, away, wait_for


@contextmanager
def reading(open_source: Callable[[], FakeSource], said: Said) -> Iterator[Reader]:
    stopping = threading.Event()
    reader = Reader("door", open_source, threading.Condition(), stopping, Notices(said), first_pause=0.01)
    reader.start()
    try:
        yield reader
    finally:
        stopping.set()
        reader.close()
        reader.join(10)
        assert not reader.is_alive()


def take(reader: Reader) -> str:
    """Name of the next picture, "interrupted" for an interruption."""
    wait_for(lambda: reader.waiting)
    with reader._arrived:
        taken = reader.take()
    assert taken is not None
    return "interrupted" if isinstance(taken, Interrupted) else taken.name


def test_newest_picture_of_a_live_source_takes_the_place_of_older_ones() -> None:
    source = FakeSource().give("1", "2", "3")
    with reading(lambda: source, Said()) as reader:
        wait_for(lambda: reader.skipped == 2)
        assert take(reader) == "3"
        assert not reader.waiting
        assert reader.state is State.RUNNING
    assert source.closed


def test_no_picture_of_a_film_is_passed_over_and_its_end_is_no_trouble() -> None:
    source, said = FakeSource(live=False).give("1", "2", "3", None), Said()
    with reading(lambda: source, said) as reader:
        assert [take(reader) for _ in range(4)] == ["1", "2", "3", "interrupted"]
        wait_for(lambda: reader.state is State.ENDED)
        assert (reader.skipped, reader.restarts, said.events) == (0, 0, [])


def test_camera_that_cannot_be_opened_is_tried_again_and_said_once() -> None:
    source, said = FakeSource().give("1"), Said()
    with reading(away(3, source), said) as reader:
        assert [take(reader) for _ in range(4)] == ["interrupted"] * 3 + ["1"]
        assert reader.restarts == 3
        assert [event for event, _ in said.events] == ["trouble", "over"]
        assert said.of("trouble")[0]["place"] == "camera door"


def test_camera_that_fails_is_interrupted_and_comes_back() -> None:
    sources = [FakeSource().give("1", EdgeError("it was unplugged; plug it in")), FakeSource().give("2")]
    said, left = Said(), iter(sources)
    with reading(lambda: next(left), said) as reader:
        assert [take(reader) for _ in range(3)] == ["1", "interrupted", "2"]
        assert (reader.restarts, reader.damaged, sources[0].closed) == (1, 2, True)
        assert [event for event, _ in said.events] == ["trouble", "over"]
        assert "unplugged" in str(said.of("trouble")[0]["text"])


def test_defect_of_a_source_ends_neither_the_thread_nor_is_it_hidden() -> None:
    source, said = FakeSource().give(ZeroDivisionError()), Said()
    with reading(lambda: source, said) as reader:
        assert take(reader) == "interrupted"
        assert "ZeroDivisionError" in str(said.of("trouble")[0]["text"])


def test_film_that_breaks_off_is_not_read_twice() -> None:
    source, said = FakeSource(live=False).give("1", EdgeError("the film is damaged; copy it again")), Said()
    with reading(lambda: source, said) as reader:
        assert [take(reader), take(reader)] == ["1", "interrupted"]
        wait_for(lambda: said.of("trouble"))
        assert (reader.state, reader.restarts) == (State.ENDED, 0)
