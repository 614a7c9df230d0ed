"""Words that name sources."""

import re
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2

from demo_camera.sources.cameras import Camera
from demo_camera.sources.captures import open_address, open_device
from demo_camera.sources.names import address_name, printable
from demo_camera.sources.options import SourceOptions
from demo_camera.sources.picture import Source
from demo_camera.sources.reading import Reader, Reading, ReadSource
from demo_camera.sources.stored.files import file_pictures
from demo_camera.sources.stored.folders import Folder
from demo_camera.sources.streams import Stream
from edge_stscq._reporter import SILENCE, Reporter
from edge_stscq.errors import EdgeError

_VIDEO_DEVICE = re.compile(r"/dev/video\d+")


def open_source(word: str, options: SourceOptions = SourceOptions(), reporter: Reporter = SILENCE) -> Source:  # noqa: B008
    """The source that `word` names.

    Args:
        word: a camera's number (`0`); the path of a camera's device, a picture, a video, a folder or a named pipe; an
            address (`rtsp://`, `rtsps://`, `http://`, `https://`); `-` for standard input.
        options: how it is read.
        reporter: gets a line about each file that is passed over, each damaged film and each camera that is lost.

    Raises:
        EdgeError: there is no such path, or the address is none.

    Example:
        >>> for picture in open_source("rtsp://10.0.0.7/main", SourceOptions(max_rate=5)).pictures():
        ...     print(picture.name, picture.image.shape)
    """
    reading = Reading(options, reporter)

    def source(name: str, live: bool, reader: Reader) -> Source:
        return ReadSource(name, live, reader, reading)

    if word == "-":
        return source("standard input", True, Stream("standard input"))
    if word.isdecimal():
        return source(f"camera {word}", True, _device(f"camera {word}", int(word)))
    if "://" in word:
        name = address_name(word)
        remedy = "check the address, the password and that it is on"
        stream = word.lower().startswith("rtsp")
        return source(name, True, Camera(name, partial(open_address, word, options.timeout), True, remedy, stream))
    if not word:
        raise EdgeError("the source is empty; give a camera's number, a picture, a video or a folder, . for this one")
    path = Path(word)
    name = printable(word)
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        what = "plug it in" if word.startswith("/dev/") else "give a camera's number, a picture, a video or a folder"
        raise EdgeError(f"{name} does not exist; {what}") from None
    if stat.S_ISDIR(mode):
        return source(name, options.follow, Folder(path))
    if stat.S_ISFIFO(mode):
        return source(name, True, Stream(name, path))
    if stat.S_ISREG(mode):
        return source(name, False, partial(file_pictures, path, printable(path.name)))
    device = str(path.resolve())
    if not _VIDEO_DEVICE.fullmatch(device):
        raise EdgeError(f"{name} is no camera; give /dev/video0, /dev/v4l/by-id/..., a file or a folder")
    return source(name, True, _device(name, device))


def _device(name: str, device: int | str) -> Camera:
    opening: Callable[[], cv2.VideoCapture] = partial(open_device, device)
    return Camera(name, opening, False, "plug it in and close other programs that use it, or give a file")
