"""OpenCV's captures, opened so that they keep time-outs, give films as they lie, and keep their chatter to themselves.

Films are handed over as an open file: a name can then be no protocol (`12:30:05.mp4`), no pattern (`%d`) and no bytes
that crash a library.
"""

import os
import sys
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_stscq._images import opencv_silenced

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # read once; otherwise each damaged picture is several lines


def open_film(file: BinaryIO) -> cv2.VideoCapture:
    """Capture of an open video file, not turned."""
    place = file.name if sys.platform == "win32" else f"/dev/fd/{file.fileno()}"
    with opencv_silenced():
        capture = cv2.VideoCapture(f"file:{place}", cv2.CAP_FFMPEG)
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
        return capture


def open_address(address: str, timeout: float) -> cv2.VideoCapture:
    """Capture of a network camera that opens and reads within `timeout` s; RTSP goes over TCP unless the environment
    (`OPENCV_FFMPEG_CAPTURE_OPTIONS`) says otherwise.
    """
    milliseconds = round(timeout * 1000)
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, milliseconds, cv2.CAP_PROP_READ_TIMEOUT_MSEC, milliseconds]
    with opencv_silenced():
        return cv2.VideoCapture(address, cv2.CAP_FFMPEG, limits)


def open_device(device: int | str) -> cv2.VideoCapture:
    """Capture of a camera in this machine, by number or by its device's path."""
    with opencv_silenced():
        capture = cv2.VideoCapture(device) if isinstance(device, int) else cv2.VideoCapture(device, cv2.CAP_V4L2)
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest picture, not the oldest of a queue
    return capture


def retrieve(capture: cv2.VideoCapture) -> NDArray[np.uint8] | None:
    """The picture that was grabbed, `uint8 [H, W, 3]` in RGB; None if it is damaged."""
    there, image = capture.retrieve()
    if not there or image is None or image.size == 0:
        return None
    code = cv2.COLOR_GRAY2RGB if image.ndim == 2 or image.shape[2] == 1 else cv2.COLOR_BGR2RGB
    return np.asarray(cv2.cvtColor(np.asarray(image, np.uint8), code), np.uint8)
