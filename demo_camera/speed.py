"""Speed and memory of the capture loop, stage by stage, on generated pictures.

The pictures are films of 25 pictures a second: a portrait that an installed package ships walks to and fro before a
background, or nobody does; as JPEG in memory, as a camera hands them over. The loop is the one of `capture`, on one
thread. Milliseconds are of the
processor, all threads of this process together, and mean the same on a busy machine; frames a second are of the clock,
too.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any, TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from demo_camera.loop import CaptureLoop
from demo_camera.results import Step
from demo_camera.sources import Picture
from edge_stscq._images import read_image
from edge_stscq._progress import Steps, no_steps
from edge_stscq.bundle import Bundle
from edge_stscq.bundle.matcher import Matcher
from edge_stscq.device.crop import check, crop_face
from edge_stscq.device.detect import Detector
from edge_stscq.device.encoder import load_encoder
from edge_stscq.device.quality import QualityGate
from edge_stscq.errors import EdgeError

T = TypeVar("T")
STAGES = ("read", "detect", "align", "judge", "encode", "entropy-code", "rest")
SCENES = (
    ("a face in every picture", (640, 480), True, 1),
    ("looked for in every third", (640, 480), True, 3),
    ("no face", (640, 480), False, 1),
    ("4K, a face", (3840, 2160), True, 1),
    ("4K, in every third", (3840, 2160), True, 3),
)
"""Name, width and height, whether a face is there, and in every how many pictures one is looked for."""
RATE = 25
"""Pictures a second of the films."""
SAMPLES = 20
"""Readings of the memory; what grows before the second is the start."""
_MOVES = 8
"""Different pictures of a scene."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StageTime(_Frozen):
    """Milliseconds of the processor for a picture that comes to this stage."""

    median_ms: float
    p90_ms: float


class Scene(_Frozen):
    """One kind of picture."""

    name: str
    width: int
    height: int
    every: int = Field(description="faces are looked for in every so many pictures")
    pictures: int
    passed: int = Field(description="visits of which a face passed the gate")
    stages: dict[str, StageTime]
    frames_per_second: float = Field(description="reading the picture included, by the clock")
    frames_per_processor_second: float


class Memory(_Frozen):
    """Resident memory of the process while it captures."""

    frames: int
    resident_mib: tuple[float, ...] = Field(description="at even distances, from the first frame to the last")

    @property
    def growth_mib(self) -> float:
        """Growth from the second reading to the last."""
        return self.resident_mib[-1] - self.resident_mib[1]


class CameraReport(_Frozen):
    """All scenes of one run, on one thread."""

    bundle: str
    runtime: str
    opencv: str
    scenes: tuple[Scene, ...]
    memory: Memory


class StageClock:
    """Time that the parts of a loop take, by stage."""

    def __init__(self) -> None:
        self.spent: defaultdict[str, float] = defaultdict(float)

    def timed(self, part: T, stage: str) -> T:
        """The same part, whose methods are timed."""
        return cast(T, _Timed(part, self, stage))

    def call(self, stage: str, function: Callable[..., T], *given: Any, **named: Any) -> T:
        """The answer of `function`, whose time counts for a stage."""
        start = time.process_time()
        try:
            return function(*given, **named)
        finally:
            self.spent[stage] += time.process_time() - start


class _Timed:
    def __init__(self, part: object, clock: StageClock, stage: str) -> None:
        self._part, self._clock, self._stage = part, clock, stage

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._part, name)
        return partial(self._clock.call, self._stage, found) if callable(found) else found


def _film(files: list[bytes], clock: StageClock) -> Iterator[Picture]:
    """JPEG files in memory to and fro, without end."""
    for number, file in enumerate(cycle(files + files[-2:0:-1])):
        yield Picture(str(number), clock.call("read", _decoded, file), None, None, number / RATE)


def measure(
    bundle: Bundle, portrait: Path, *, pictures: int = 60, frames: int = 400, steps: Steps = no_steps
) -> CameraReport:
    """Time the capture loop on each scene, then watch its memory.

    Args:
        portrait: picture with one face.
        pictures: that are timed in each scene; two more go before.
        frames: of 640 x 480 with a face in every one, looked for in every third, over which memory is watched; 20 or
            more.

    Raises:
        EdgeError: as `load_encoder`, or no face was captured where there is one.
    """
    check(bundle.manifest.crop)
    face = read_image(portrait)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        scenes = []
        for name, size, shows_face, every in SCENES:
            with steps(f"{name}, {size[0]} x {size[1]}", pictures) as progress:
                shown = face if shows_face else None
                scenes.append(_scene(bundle, name, size, shown, every, pictures, progress))
        with steps("memory", frames) as progress:
            memory = _memory(bundle, face, frames, progress)
    finally:
        cv2.setNumThreads(threads)
    runtime = load_encoder(bundle, verify=False).runtime
    return CameraReport(
        bundle=bundle.manifest.name, runtime=runtime, opencv=cv2.__version__, scenes=tuple(scenes), memory=memory
    )


def drawn(size: tuple[int, int], face: NDArray[np.uint8] | None) -> list[bytes]:
    """JPEG files of `size` (width, height): a portrait `uint8 [H, W, 3]` that moves and comes nearer, or none."""
    width, height = size
    random = np.random.default_rng(0)
    found = []
    for number in range(_MOVES):
        coarse = random.integers(60, 190, (6, 8, 3), np.uint8)
        image = np.asarray(cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC), np.uint8)
        image += random.integers(0, 12, image.shape, np.uint8)
        if face is not None:
            scale = height * (0.7 + 0.02 * number) / face.shape[0]
            near = np.asarray(cv2.resize(face, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
            high, wide = near.shape[:2]
            left = round((width - wide) * (0.3 + 0.4 * number / _MOVES))
            image[height - high :, left : left + wide] = near
        _, file = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])
        found.append(file.tobytes())
    return found


def _decoded(file: bytes) -> NDArray[np.uint8]:
    image = np.asarray(cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR), np.uint8)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def _loop(bundle: Bundle, clock: StageClock, every: int) -> CaptureLoop:
    """The loop of `capture`, with all that it compares by."""
    detector = Detector()
    return CaptureLoop(
        clock.timed(detector, "detect"), clock.timed(load_encoder(bundle), "encode"),
        clock.timed(bundle.frames, "entropy-code"), clock.timed(QualityGate(detector), "judge"),
        matcher=Matcher.of(bundle) if bundle.manifest.matches else None, every=every,
    )  # fmt: skip


def _steps(loop: CaptureLoop, files: list[bytes], clock: StageClock) -> Iterator[Step]:
    return (loop.step(picture) for picture in _film(files, clock))


def _scene(
    bundle: Bundle, name: str, size: tuple[int, int], face: NDArray[np.uint8] | None, every: int, pictures: int,
    progress: Callable[[int], None],
) -> Scene:  # fmt: skip
    clock, files = StageClock(), drawn(size, face)
    image = _decoded(files[0])
    found = Detector().largest(image)
    loop = _loop(bundle, clock, every)
    film = _steps(loop, files, clock)
    for _ in islice(film, 2):
        pass
    times: dict[str, list[float]] = {stage: [] for stage in STAGES}
    by_clock, by_processor = 0.0, 0.0
    for _ in range(pictures):
        clock.spent.clear()
        start, used = time.perf_counter(), time.process_time()
        next(film)
        by_clock += time.perf_counter() - start
        total = time.process_time() - used
        by_processor += total
        if found is not None:
            clock.call("align", crop_face, image, found.points)  # by itself; in the loop it is a part of judging
            total += clock.spent["align"]
        clock.spent["rest"] = max(0.0, total - sum(clock.spent.values()))
        for stage, seconds in clock.spent.items():
            times[stage].append(1000 * seconds)
        progress(1)
    if face is not None and not loop.counters.tracks:
        raise EdgeError(f"{name}: no face passed the gate in {pictures} pictures; see `edge-stscq selftest`")
    stages = {stage: _summary(taken) for stage, taken in times.items() if taken}
    return Scene(
        name=name, width=size[0], height=size[1], every=every, pictures=pictures, passed=loop.counters.tracks,
        stages=stages,
        frames_per_second=round(pictures / by_clock, 1), frames_per_processor_second=round(pictures / by_processor, 1),
    )  # fmt: skip


def _summary(taken: list[float]) -> StageTime:
    middle, high = (round(float(value), 3) for value in np.quantile(taken, [0.5, 0.9]))
    return StageTime(median_ms=middle, p90_ms=high)


def _memory(bundle: Bundle, face: NDArray[np.uint8], frames: int, progress: Callable[[int], None]) -> Memory:
    clock = StageClock()
    film = _steps(_loop(bundle, clock, 3), drawn((640, 480), face), clock)
    marks = {round(place) for place in np.linspace(1, frames, SAMPLES)}
    resident = []
    for number, _ in enumerate(islice(film, frames), start=1):
        if number in marks:
            resident.append(_resident_mib())
        progress(1)
    return Memory(frames=frames, resident_mib=tuple(resident))


def _resident_mib() -> float:
    """Resident memory of this process.

    Raises:
        EdgeError: the system does not tell.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return round(next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024, 1)
    except (OSError, StopIteration):
        raise EdgeError("this system does not tell the memory of a process in /proc; measure on Linux") from None
