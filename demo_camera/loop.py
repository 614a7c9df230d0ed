"""The capture loop: picture -> detect -> align -> judge -> encode -> frame.

The loop knows an encoder and a frame layout, not where they come from, and yields what it captured; what becomes of a
frame is the sink's business (`demo_camera/sinks.py`). Faces that are not captured are counted with the reason.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from demo_camera.sources import Source
from edge_stscq.device.clock import now
from edge_stscq.device.crop import crop_face
from edge_stscq.device.detect import Detector, Face
from edge_stscq.device.quality import QualityGate
from edge_stscq.errors import EdgeError
from edge_stscq.stream import CapturedFace, Clock, CodedFace, FrameCodec
from edge_stscq.stream.wire import frame_bound


class Encoder(Protocol):
    """The part of `edge_stscq.device.DeviceEncoder` that the loop needs."""

    def encode(self, image: NDArray[np.uint8], layers: int | None) -> CodedFace:
        """The code of a canonical crop, `uint8 [128, 128, 3]`, RGB, with its first `layers` layers, or all."""


@dataclass(frozen=True, eq=False)
class Capture:
    """One captured face on its way out."""

    picture: str
    face: Face
    crop: NDArray[np.uint8]
    coded: CapturedFace


@dataclass
class Counters:
    """Counters of one run. `wire_bytes` are the frames, at most; what a section's header takes comes on top, once."""

    pictures: int = 0
    faces: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    """Rejections by reason; "no face" is one of them."""
    payload_bytes: int = 0
    wire_bytes: int = 0


@dataclass
class CaptureLoop:
    """Turns pictures into frames; `layers` of each face travel, None is all.

    With `base`, each face has a frame of its basic layer, too, which may travel before the further layers of any.
    """

    detector: Detector
    encoder: Encoder
    codec: FrameCodec
    gate: QualityGate = field(default_factory=QualityGate)
    layers: int | None = None
    base: bool = False
    clock: Callable[[], tuple[int, Clock]] = now
    """Milliseconds since 1970 UTC, and the state of the clock that says so."""
    counters: Counters = field(default_factory=Counters)
    latest: str = ""
    """The verdict on the latest picture, in words."""

    def run(self, source: Source) -> Iterator[Capture | None]:
        """Yield after every picture: what was captured, or None.

        Raises:
            EdgeError: a picture is unreadable, the camera fails, or the source ended without one captured face.
        """
        for picture in source.pictures():
            self.counters.pictures += 1
            yield self._capture(picture.name, picture.image)
        if self.counters.faces == 0:
            raise EdgeError(f"{self._nothing()}; give a sharp picture with a face at least 60 pixels wide")

    def _capture(self, name: str, image: NDArray[np.uint8]) -> Capture | None:
        face = self.detector.largest(image)
        if face is None:
            self._reject("no face", f"{name}: no face found")
            return None
        crop = crop_face(image, face.points)
        rejection = self.gate.check(face, crop)
        if rejection is not None:
            self._reject(rejection.reason, f"{name}: {rejection}")
            return None
        moment, clock = self.clock()
        coded = self.codec.captured(self.encoder.encode(crop, self.layers), moment, clock, base=self.base)
        self.counters.faces += 1
        self.counters.payload_bytes += coded.payload_bytes
        self.counters.wire_bytes += frame_bound(coded.payload_bytes)
        self.latest = f"{name}: {coded.payload_bytes} bytes"
        return Capture(name, face, crop, coded)

    def _reject(self, reason: str, message: str) -> None:
        self.counters.rejected[reason] += 1
        self.latest = message

    def _nothing(self) -> str:
        if self.counters.pictures == 1:
            return self.latest
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.counters.rejected.most_common())
        return f"no face captured in {self.counters.pictures} picture{'s' * (self.counters.pictures != 1)} ({reasons})"
