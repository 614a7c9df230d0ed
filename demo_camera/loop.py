"""The capture loop: picture -> detect -> align -> judge -> encode -> frame.

The loop knows an encoder and a frame layout, not where they come from, and yields what it captured; what becomes of a
frame is the outlet's business (`demo_camera/outlet.py`). Faces that are not captured are counted with the reason.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from demo_camera.align import crop_face
from demo_camera.detect import Detector, Face
from demo_camera.quality import Gate
from demo_camera.source import Source
from edge_stscq.errors import EdgeError
from edge_stscq.stream import CodedFace, FrameCodec


class Encoder(Protocol):
    """What the loop needs of `edge_stscq.device.DeviceEncoder`."""

    def encode(self, image: NDArray[np.uint8], layers: int | None) -> CodedFace:
        """The code of a canonical crop, `uint8 [128, 128, 3]`, RGB, with its first `layers` layers, or all."""


@dataclass(frozen=True, eq=False)
class Shot:
    """One captured face on its way out."""

    picture: str
    face: Face
    crop: NDArray[np.uint8]
    frame: bytes
    payload_bytes: int


@dataclass
class Counters:
    """What happened so far. `wire_bytes` are the frames; a stream's 13-byte header comes on top, once."""

    pictures: int = 0
    faces: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """How often each reason was met; "no face" is one of them."""
    payload_bytes: int = 0
    wire_bytes: int = 0


@dataclass
class CaptureLoop:
    """Turns pictures into frames; `layers` of each face travel, None is all."""

    detector: Detector
    encoder: Encoder
    codec: FrameCodec
    gate: Gate = field(default_factory=Gate)
    layers: int | None = None
    counters: Counters = field(default_factory=Counters)
    latest: str = ""
    """The verdict on the latest picture, in words."""

    def run(self, source: Source) -> Iterator[Shot | None]:
        """Yield after every picture: what was captured, or None.

        Raises:
            EdgeError: a picture is unreadable, the camera fails, or the source ended without one captured face.
        """
        for picture in source.pictures():
            self.counters.pictures += 1
            yield self._capture(picture.name, picture.image)
        if self.counters.faces == 0:
            raise EdgeError(f"{self._nothing()}; give a sharp picture with a face at least 60 pixels wide")

    def _capture(self, name: str, image: NDArray[np.uint8]) -> Shot | None:
        face = self.detector.largest(image)
        if face is None:
            self._refuse("no face", f"{name}: no face found")
            return None
        crop = crop_face(image, face.points)
        refusal = self.gate.refuse(face, crop)
        if refusal is not None:
            self._refuse(refusal.reason, f"{name}: {refusal}")
            return None
        code = self.encoder.encode(crop, self.layers)
        shot = Shot(name, face, crop, self.codec.encode_frame(code), self.codec.payload_size(code))
        self.counters.faces += 1
        self.counters.payload_bytes += shot.payload_bytes
        self.counters.wire_bytes += len(shot.frame)
        self.latest = f"{name}: {len(shot.frame)} bytes"
        return shot

    def _refuse(self, reason: str, message: str) -> None:
        self.counters.refused[reason] += 1
        self.latest = message

    def _nothing(self) -> str:
        if self.counters.pictures == 1:
            return self.latest
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.counters.refused.most_common())
        return f"no face captured in {self.counters.pictures} pictures ({reasons})"
