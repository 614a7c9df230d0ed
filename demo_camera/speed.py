"""Speed and memory of the capture loop, stage by stage, on generated pictures.

The pictures are the two portraits that installed packages ship, moved over a background, and the background alone; as
JPEG in memory, as a camera hands them over. The loop is the one of `capture`, on one thread. Milliseconds are of the
processor, all threads of this process together, and mean the same on a busy machine; frames a second are of the clock,
too.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any, TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from demo_camera.loop import Capture, CaptureLoop
from demo_camera.source import Picture, Source
from edge_stscq._images import read_image
from edge_stscq._progress import Steps, no_steps
from edge_stscq.bundle import Bundle
from edge_stscq.device.crop import check, crop_face
from edge_stscq.device.detect import Detector
from edge_stscq.device.encoder import load_encoder
from edge_stscq.device.quality import QualityGate
from edge_stscq.errors import EdgeError

T = TypeVar("T")
STAGES = ("read", "detect", "align", "judge", "encode", "entropy-code", "rest")
SCENES = (
    ("a face in every picture", (640, 480), True),
    ("no face", (640, 480), False),
    ("4K, a face", (3840, 2160), True),
)
"""Name, width and height, and whether a face is there."""
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
    pictures: int
    captured: int = Field(description="faces")
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


@dataclass
class _Feed:
    """A source of JPEG files in memory, over and over."""

    files: list[bytes]
    clock: StageClock

    def pictures(self) -> Iterator[Picture]:
        for number, file in enumerate(cycle(self.files)):
            yield Picture(str(number), self.clock.call("read", _decoded, file))


def measure(
    bundle: Bundle, portraits: list[Path], *, pictures: int = 60, frames: int = 400, steps: Steps = no_steps
) -> CameraReport:
    """Time the capture loop on each scene, then watch its memory.

    Args:
        portraits: pictures with one face each.
        pictures: that are timed in each scene; two more go before.
        frames: of 640 x 480 with a face in every one, over which memory is watched; 20 or more.

    Raises:
        EdgeError: as `load_encoder`, or no face was captured where there is one.
    """
    check(bundle.manifest.crop)
    faces = [read_image(path) for path in portraits]
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        scenes = []
        for name, size, shows_face in SCENES:
            with steps(f"{name}, {size[0]} x {size[1]}", pictures) as progress:
                scenes.append(_scene(bundle, name, size, faces if shows_face else [], pictures, progress))
        with steps("memory", frames) as progress:
            memory = _memory(bundle, faces, frames, progress)
    finally:
        cv2.setNumThreads(threads)
    runtime = load_encoder(bundle, verify=False).runtime
    return CameraReport(
        bundle=bundle.manifest.name, runtime=runtime, opencv=cv2.__version__, scenes=tuple(scenes), memory=memory
    )


def drawn(size: tuple[int, int], faces: list[NDArray[np.uint8]]) -> list[bytes]:
    """JPEG files of `size` (width, height): the faces in turn, each at other places, or a background without any."""
    width, height = size
    random = np.random.default_rng(0)
    found = []
    for number in range(_MOVES):
        coarse = random.integers(60, 190, (6, 8, 3), np.uint8)
        image = np.asarray(cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC), np.uint8)
        image += random.integers(0, 12, image.shape, np.uint8)
        if faces:
            face = faces[number % len(faces)]
            scale = height * (0.6 + 0.05 * number) / face.shape[0]
            face = np.asarray(cv2.resize(face, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
            high, wide = face.shape[:2]
            left = round((width - wide) * (number + 1) / (_MOVES + 1))
            image[height - high :, left : left + wide] = face
        _, file = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])
        found.append(file.tobytes())
    return found


def _decoded(file: bytes) -> NDArray[np.uint8]:
    image = np.asarray(cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR), np.uint8)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def _captures(bundle: Bundle, files: list[bytes], clock: StageClock) -> Iterator[Capture | None]:
    """Results of the loop of `capture`, picture after picture, without end."""
    loop = CaptureLoop(
        clock.timed(Detector(), "detect"), clock.timed(load_encoder(bundle), "encode"),
        clock.timed(bundle.frames, "entropy-code"), gate=clock.timed(QualityGate(), "judge"),
    )  # fmt: skip
    return loop.run(cast(Source, _Feed(files, clock)))


def _scene(
    bundle: Bundle, name: str, size: tuple[int, int], faces: list[NDArray[np.uint8]], pictures: int,
    progress: Callable[[int], None],
) -> Scene:  # fmt: skip
    clock, files = StageClock(), drawn(size, faces)
    captures = _captures(bundle, files, clock)
    for _ in islice(captures, 2):
        pass
    times: dict[str, list[float]] = {stage: [] for stage in STAGES}
    captured, by_clock, by_processor = 0, 0.0, 0.0
    for number in range(pictures):
        clock.spent.clear()
        start, used = time.perf_counter(), time.process_time()
        capture = next(captures)
        by_clock += time.perf_counter() - start
        total = time.process_time() - used
        by_processor += total
        if capture is not None:
            captured += 1
            image = _decoded(files[(number + 2) % len(files)])
            clock.call("align", crop_face, image, capture.face.points)  # again, since the loop calls it by itself
        clock.spent["rest"] = max(0.0, total - sum(clock.spent.values()))
        for stage, seconds in clock.spent.items():
            times[stage].append(1000 * seconds)
        progress(1)
    if faces and not captured:
        raise EdgeError(f"{name}: no face was captured in {pictures} pictures; see `edge-stscq selftest`")
    stages = {stage: _summary(taken) for stage, taken in times.items() if taken}
    return Scene(
        name=name, width=size[0], height=size[1], pictures=pictures, captured=captured, stages=stages,
        frames_per_second=round(pictures / by_clock, 1), frames_per_processor_second=round(pictures / by_processor, 1),
    )  # fmt: skip


def _summary(taken: list[float]) -> StageTime:
    middle, high = (round(float(value), 3) for value in np.quantile(taken, [0.5, 0.9]))
    return StageTime(median_ms=middle, p90_ms=high)


def _memory(bundle: Bundle, faces: list[NDArray[np.uint8]], frames: int, progress: Callable[[int], None]) -> Memory:
    captures = _captures(bundle, drawn((640, 480), faces), StageClock())
    marks = {round(place) for place in np.linspace(1, frames, SAMPLES)}
    resident = []
    for number, _ in enumerate(islice(captures, frames), start=1):
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
