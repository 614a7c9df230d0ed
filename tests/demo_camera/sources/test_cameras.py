"""A camera gives its newest picture; failures are tried again, and what ends it comes after what it gave."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from demo_camera.sources import Backoff, Picture, Source, SourceOptions, cameras, open_source
from demo_camera.sources.cameras import Camera
from demo_camera.sources.reading import Reading, ReadSource
from edge_stscq.errors import EdgeError
from edge_stscq.stream import Clock
from tests.support.sources.pictures import Lines

Rgb = NDArray[np.uint8]
Step = Rgb | None | Callable[[], None]
QUICK = SourceOptions(timeout=0.3, backoff=Backoff(0.01, 0.02))


def gray(level: int, height: int = 4) -> Rgb:
    return np.full((height, 6, 3), level, np.uint8)


class FakeCapture:
    """Capture that gives what it was told, one step a read: a picture, a failure (None), or something that it does."""

    def __init__(self, steps: Iterable[Step], opened: bool = True, length: float = -1) -> None:
        self._steps = iter(steps)
        self._length = length
        self._opened = opened
        self._image: Rgb | None = None
        self.released = threading.Event()

    def isOpened(self) -> bool:  # noqa: N802
        return self._opened

    def grab(self) -> bool:
        step = next(self._steps, None)
        while callable(step):
            step()
            step = next(self._steps, None)
        self._image = step
        return step is not None

    def retrieve(self) -> tuple[bool, Rgb | None]:
        return True, self._image

    def get(self, what: int) -> float:
        return self._length if what == cv2.CAP_PROP_FRAME_COUNT else -1

    def set(self, *_: float) -> bool:
        return True

    def release(self) -> None:
        self.released.set()


def camera(
    *captures: FakeCapture, network: bool = False, stream: bool = False, options: SourceOptions = QUICK
) -> tuple[Source, Lines]:
    """A source that opens the captures in turn, and what it says."""
    queue, lines = list(captures), Lines()
    closed = FakeCapture([], opened=False)

    def opening() -> cv2.VideoCapture:
        return queue.pop(0) if queue else closed  # type: ignore[return-value]

    reader = Camera("door", opening, network, "plug it in", stream)
    return ReadSource("door", True, reader, Reading(options, lines)), lines


def waits(wait: Callable[[], bool]) -> Callable[[], None]:
    """A step that waits; the test fails by what comes after if it is in vain."""

    def step() -> None:
        wait()

    return step


def slowly(pictures: Iterable[Rgb | None], gate: threading.Semaphore) -> Iterator[Step]:
    """Pictures that come only when the test has taken the one before."""
    for picture in pictures:
        yield waits(lambda: gate.acquire(timeout=5))
        yield picture


def all_of(source: Source, gate: threading.Semaphore = threading.Semaphore()) -> tuple[list[Picture], str]:  # noqa: B008
    """All pictures, and the error at their end."""
    pictures, why = [], ""
    gate.release()
    try:
        for picture in source.pictures():
            pictures.append(picture)
            gate.release()
    except EdgeError as error:
        why = str(error)
    return pictures, why


def test_the_newest_picture_is_given_and_the_rest_counted() -> None:
    read = threading.Event()
    over = threading.Event()

    def gone_on() -> None:
        read.set()
        over.wait(5)

    first = threading.Event()
    capture = FakeCapture([gray(0), waits(lambda: first.wait(5)), *map(gray, range(1, 8)), gone_on])
    source, _ = camera(capture)
    pictures = source.pictures()
    assert next(pictures).image[0, 0, 0] == 0
    first.set()
    assert read.wait(5)
    assert next(pictures).image[0, 0, 0] == 7
    assert source.counters.dropped == 6
    over.set()
    source.close()
    assert list(pictures) == []
    assert capture.released.wait(5)


def test_a_failed_read_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cameras, "_PAUSE", 0)
    gate = threading.Semaphore(0)
    capture = FakeCapture(slowly([gray(1), None, gray(2), None, None, gray(3)], gate))
    source, lines = camera(capture)
    pictures = []
    stream = source.pictures()
    for releases in (1, 2, 3):
        for _ in range(releases):
            gate.release()
        pictures.append(next(stream))
    assert [int(picture.image[0, 0, 0]) for picture in pictures] == [1, 2, 3]
    assert source.counters.damaged == 3
    assert lines.said == []
    source.close()
    gate.release()
    stream.close()  # type: ignore[attr-defined]


def test_a_camera_that_is_unplugged_ends_after_what_it_gave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cameras, "_PAUSE", 0)
    gate = threading.Semaphore(0)
    source, _ = camera(FakeCapture(slowly([gray(1), gray(2), gray(3)], gate)))
    pictures, why = all_of(source, gate)
    assert len(pictures) == 3
    assert why == "door stopped after 3 pictures; plug it in"


def test_a_camera_that_cannot_be_opened_says_so() -> None:
    for network in (False, True):
        source, _ = camera(FakeCapture([], opened=False), network=network)
        assert all_of(source) == ([], "door cannot be opened; plug it in")


def test_a_local_camera_that_hangs_is_noticed() -> None:
    over = threading.Event()
    source, _ = camera(FakeCapture([gray(1), waits(lambda: over.wait(5))]))
    pictures, why = all_of(source)
    assert len(pictures) == 1
    assert why == "door gave no picture for 0.3 s after 1 picture; plug it in"
    over.set()


def test_a_network_camera_is_connected_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cameras, "_PAUSE", 0)
    gate = threading.Semaphore(0)
    parts = [FakeCapture(slowly(map(gray, part), gate)) for part in ((1, 2), (3,), (4, 5))]
    closed = FakeCapture([], opened=False)
    options = SourceOptions(timeout=2, backoff=Backoff(0.01, 0.02, tries=2))
    source, lines = camera(parts[0], closed, parts[1], parts[2], network=True, options=options)
    pictures, why = all_of(source, gate)
    assert [picture.image[0, 0, 0] for picture in pictures] == [1, 2, 3, 4, 5]
    assert [picture.name for picture in pictures] == [f"door picture {number}" for number in range(5)]
    assert why == "door cannot be opened after 5 pictures, and 2 tries to connect failed; plug it in"
    assert source.counters.reconnects == 2
    assert [line.split(" in ")[0] for line in lines.said[:2]] == [
        "door stopped; connecting again",
        "door cannot be opened; connecting again",
    ]
    assert all(part.released.wait(5) for part in parts)


def test_a_stream_that_tells_its_length_is_live_until_all_of_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cameras, "_PAUSE", 0)
    gate = threading.Semaphore(0)
    parts = [FakeCapture(slowly(map(gray, part), gate), length=9) for part in (range(3), range(3, 12))]
    options = SourceOptions(timeout=2, backoff=Backoff(0.01, 0.02))
    source, lines = camera(*parts, network=True, stream=True, options=options)
    pictures, why = all_of(source, gate)
    assert [picture.image[0, 0, 0] for picture in pictures] == list(range(12))
    assert all(picture.captured_ms for picture in pictures)
    assert (why, source.counters.reconnects) == ("", 1)
    assert [line.split(" in ")[0] for line in lines.said] == ["door stopped; connecting again"]


def test_a_film_at_an_address_that_ends_early_says_so() -> None:
    for came, said in ((99, []), (40, ["door may be cut short: 40 pictures of about 100 were read"])):
        source, lines = camera(FakeCapture(map(gray, range(came)), length=100), network=True)
        pictures, why = all_of(source)
        assert (len(pictures), why, lines.said) == (came, "", said)


def test_a_process_does_not_end_while_a_camera_is_being_opened() -> None:
    """Python ends threads that come back from C++ while it is ending by aborting the process, exit code 134."""
    program = """
import time, threading
from demo_camera.sources import SourceOptions, cameras
from demo_camera.sources.reading import Reading, ReadSource
cameras._PATIENCE, opened = 0, threading.Event()
def opening():
    opened.set()
    time.sleep(0.3)
    print("let go", flush=True)
    raise SystemExit
source = ReadSource("door", True, cameras.Camera("door", opening, True, ""), Reading(SourceOptions()))
threading.Thread(target=lambda: (opened.wait(), source.close())).start()
assert list(source.pictures()) == []
print("over", flush=True)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "over\nlet go\n"), done.stderr


def test_reconnecting_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cameras, "_PAUSE", 0)
    gate = threading.Semaphore(0)
    options = SourceOptions(timeout=2, reconnect=False)
    source, _ = camera(FakeCapture(slowly([gray(1)], gate)), network=True, options=options)
    assert all_of(source, gate)[1] == "door stopped after 1 picture; plug it in"


def test_closing_ends_the_wait_for_a_camera_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cameras, "_PAUSE", 0)
    source, _ = camera(FakeCapture([gray(1)]), network=True, options=SourceOptions(backoff=Backoff(600, 600)))
    stream = source.pictures()
    next(stream)
    threading.Timer(0.1, source.close).start()
    assert list(stream) == []


@pytest.mark.parametrize("word", ["camera", "pipe"])
def test_a_signal_handler_may_close(word: str, tmp_path: Path) -> None:
    over = threading.Event()
    os.mkfifo(tmp_path / "pipe")
    capture = FakeCapture([gray(1), waits(lambda: over.wait(5))])
    options = SourceOptions(timeout=60)
    source = camera(capture, options=options)[0] if word == "camera" else open_source(str(tmp_path / "pipe"), options)
    before = signal.signal(signal.SIGALRM, lambda *_: source.close())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        assert len(list(source.pictures())) <= 1
    finally:
        signal.signal(signal.SIGALRM, before)
        over.set()


def test_a_picture_has_the_time_at_which_it_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is set back between two pictures: the time of capture follows it, the rate and `at` do not."""
    moments = iter([2_000_000_000_000, 1_000_000_000_000])
    monkeypatch.setattr(cameras, "now", lambda: (next(moments), Clock.SYNCHRONIZED))
    gate = threading.Semaphore(0)
    source, _ = camera(FakeCapture(slowly([gray(1), gray(2)], gate)), options=SourceOptions(timeout=2, max_rate=1e6))
    monkeypatch.setattr(cameras, "_PAUSE", 0)
    (first, second), _ = all_of(source, gate)
    assert (first.captured_ms, second.captured_ms) == (2_000_000_000_000, 1_000_000_000_000)
    assert first.clock == Clock.SYNCHRONIZED
    assert first.at is not None
    assert second.at is not None
    assert first.at <= second.at
    assert source.counters.dropped == 0


def test_sizes_may_change_and_pictures_be_black_or_gray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cameras, "_PAUSE", 0)
    gate = threading.Semaphore(0)
    flat = np.full((8, 5), 77, np.uint8)
    source, _ = camera(FakeCapture(slowly([gray(0), gray(9, 40), flat, np.zeros((0, 0, 3), np.uint8), gray(5)], gate)))
    for _ in range(5):
        gate.release()
    pictures, why = all_of(source, gate)
    shapes = {picture.image.shape for picture in pictures}
    assert (4, 6, 3) in shapes
    assert shapes <= {(4, 6, 3), (40, 6, 3), (8, 5, 3)}
    assert why.startswith("door stopped after ")


def test_a_rate_is_not_taken_for_a_stall() -> None:
    """Pictures are read all the time, but one in ten seconds is wanted: the second is waited for past the time-out."""
    over = threading.Event()

    def steps() -> Iterator[Step]:
        while not over.is_set():
            yield lambda: time.sleep(0.01)
            yield gray(1)

    source, _ = camera(FakeCapture(steps()), options=SourceOptions(timeout=0.1, max_rate=0.1))
    stream = source.pictures()
    next(stream)
    threading.Timer(0.4, source.close).start()
    assert list(stream) == []
    assert source.counters.dropped > 5
    over.set()


def test_a_device_is_named_by_number_path_or_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []

    def capture(*arguments: object) -> FakeCapture:
        asked.append(arguments)
        return FakeCapture([gray(3)])

    monkeypatch.setattr(cv2, "VideoCapture", capture)
    assert next(open_source("0").pictures()).name == "camera 0 picture 0"
    link = tmp_path / "usb-camera"
    link.symlink_to("/dev/null")
    resolve = Path.resolve
    monkeypatch.setattr(
        Path, "resolve", lambda self, strict=False: Path("/dev/video2") if self == link else resolve(self, strict)
    )
    source = open_source(str(link))
    assert next(source.pictures()).name == f"{link} picture 0"
    assert asked == [(0,), ("/dev/video2", cv2.CAP_V4L2)]
    with pytest.raises(EdgeError, match=r"^/dev/null is no camera; give /dev/video0"):
        open_source("/dev/null")
    with pytest.raises(EdgeError, match=r"^/dev/video97 does not exist; plug it in$"):
        open_source("/dev/video97")
