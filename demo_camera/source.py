"""Sources of pictures: a camera, a video, a picture, or a folder of pictures.

One word names a source: `0` is the first camera, anything else is a path. Pictures arrive one by one in RGB, turned
upright where the file says how it was held.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_stscq._images import read_image
from edge_stscq.errors import EdgeError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".jp2", ".ppm", ".pgm"})


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture of a source: `image` is `uint8 [H, W, 3]`, RGB; `name` says which it is in a message."""

    name: str
    image: NDArray[np.uint8]


@dataclass(frozen=True)
class Source:
    """A source that exists. Iterate over `pictures()`; a camera goes on until it is stopped."""

    camera: int | None
    files: tuple[Path, ...] = ()
    video: Path | None = None

    def pictures(self) -> Iterator[Picture]:
        """Yield the pictures in order (files by name).

        Raises:
            EdgeError: a file is not readable, or the camera cannot be opened or stops.
        """
        if self.camera is not None:
            yield from _camera(self.camera)
        elif self.video is not None:
            yield from _video(self.video)
        else:
            for path in self.files:
                yield Picture(path.name, read_image(path))


def open_source(word: str) -> Source:
    """The source that `word` names: a camera's number, or the path of a picture, video or folder of pictures.

    Raises:
        EdgeError: there is no such path, or a folder has no pictures.
    """
    if word.isdecimal():
        return Source(camera=int(word))
    path = Path(word)
    if path.is_dir():
        files = tuple(sorted(p for p in path.iterdir() if _is_picture(p)))
        if not files:
            raise EdgeError(f"{path} has no pictures; give a folder with JPEG, PNG or WebP files")
        return Source(camera=None, files=files)
    if not path.is_file():
        raise EdgeError(f"{path} does not exist; give a camera's number, a picture, a video or a folder of pictures")
    return Source(camera=None, files=(path,)) if _is_picture(path) else Source(camera=None, video=path)


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _camera(index: int) -> Iterator[Picture]:
    capture = cv2.VideoCapture(index)
    try:
        if not capture.isOpened():
            raise EdgeError(f"camera {index} cannot be opened; plug it in and close other programs, or give a file")
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest picture, not the oldest of a queue
        number = 0
        while True:
            there, image = capture.read()
            if not there:
                raise EdgeError(f"camera {index} stopped after {number} picture{'s' * (number != 1)}; plug it in again")
            yield Picture(f"camera {index} picture {number}", _rgb(image))
            number += 1
    finally:
        capture.release()


def _video(path: Path) -> Iterator[Picture]:
    capture = cv2.VideoCapture(str(path))
    try:
        number = 0
        while True:
            there, image = capture.read()
            if not there:
                break
            yield Picture(f"{path.name} picture {number}", _rgb(image))
            number += 1
    finally:
        capture.release()
    if number == 0:
        raise EdgeError(f"{path} is damaged or neither a picture nor a video; give JPEG, PNG, WebP, MP4 or AVI")


def _rgb(image: NDArray[np.generic]) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(np.asarray(image, np.uint8), cv2.COLOR_BGR2RGB), np.uint8)
