"""Files of pictures and films, the eight ways that they lie, and what a source says."""

import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_stscq._reporter import Silence

Rgb = NDArray[np.uint8]


class Lines(Silence):
    """Reporter that keeps what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)


def file_of(image: Rgb, kind: str = "JPEG", **options: object) -> bytes:
    """Bytes of a picture file, by Pillow."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def turned(image: Rgb, orientation: int) -> Rgb:
    """The picture that one of EXIF's eight orientations stands for."""
    turns: dict[int, Callable[[Rgb], Rgb]] = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: np.swapaxes(a, 0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.swapaxes(a[::-1, ::-1], 0, 1),
        8: lambda a: np.rot90(a),
    }
    return turns[orientation](image)


def film(path: Path, images: list[Rgb], codec: str = "mp4v", rate: float = 10) -> Path:
    """Write a video file."""
    height, width = images[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), rate, (width, height))
    assert writer.isOpened()
    for image in images:
        writer.write(image[..., ::-1])
    writer.release()
    return path


def same(one: Rgb, other: Rgb, most: float = 12) -> bool:
    """True if two pictures are the same but for what a lossy file changes."""
    return one.shape == other.shape and float(np.abs(one.astype(int) - other).mean()) < most


def rewritten(path: Path, kind: bytes, at: int, data: bytes) -> Path:
    """Write `data` over the contents of the only box of a kind, from their byte `at` on."""
    whole = bytearray(path.read_bytes())
    assert whole.count(kind) == 1
    start = whole.index(kind) + 4 + at
    whole[start : start + len(data)] = data
    path.write_bytes(whole)
    return path


def exif(orientation: int = 1, **texts: str) -> bytes:
    """EXIF data with an orientation and times: `original`, `digitized`, `changed`, `offset`, `fraction`."""
    data = Image.Exif()
    data[0x112] = orientation
    tags = {"original": 0x9003, "digitized": 0x9004, "offset": 0x9011, "fraction": 0x9291}
    for name, text in texts.items():
        if name == "changed":
            data[0x132] = text
        else:
            data.get_ifd(0x8769)[tags[name]] = text
    return data.tobytes()
