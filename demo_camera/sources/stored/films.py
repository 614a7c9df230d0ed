"""Pictures of a video file: all that can be decoded, at their own times, upright."""

from collections.abc import Iterator
from typing import BinaryIO

import cv2

from demo_camera.sources.captures import open_film, retrieve
from demo_camera.sources.picture import Picture
from demo_camera.sources.reading import Reading
from demo_camera.sources.stored.containers import Orientation, held, made_ms
from edge_stscq._images.reading import MOST_PIXELS
from edge_stscq.errors import EdgeError
from edge_stscq.stream import Clock

_FAILURES = 64
"""Reads in a row that fail before a film is at its end, if it does not say how long it is."""
_MOST_FAILURES = 100_000


def film_pictures(file: BinaryIO, name: str, reading: Reading) -> Iterator[Picture]:
    """Yield the pictures of an open video file; damage is counted and said in a line at the end.

    Raises:
        EdgeError: not one picture can be decoded, or they are too large.
    """
    orientation, made = held(file), made_ms(file)
    file.seek(0)
    capture = open_film(file)
    try:
        if capture.get(cv2.CAP_PROP_FRAME_WIDTH) * capture.get(cv2.CAP_PROP_FRAME_HEIGHT) > MOST_PIXELS:
            raise EdgeError(f"{name} has pictures of more than {MOST_PIXELS:,} pixels; make them smaller")
        if orientation is None:
            orientation = Orientation.clockwise(round(capture.get(cv2.CAP_PROP_ORIENTATION_META)))
        total = min(max(round(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0), _MOST_FAILURES)
        came = damaged = failed = 0
        while capture.isOpened() and not reading.closed and failed <= max(_FAILURES, total - came - damaged):
            image = None
            if capture.grab():
                at = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                if not reading.admits(at):
                    came, damaged, failed = came + 1, damaged + failed, 0
                    continue
                image = retrieve(capture)
            if image is None:
                failed += 1
                continue
            damaged, failed = damaged + failed, 0
            captured = None if made is None else made + round(at * 1000)
            clock = None if made is None else Clock.UNSYNCHRONIZED
            yield Picture(f"{name} picture {came}", orientation.upright(image), captured, clock, at)
            came += 1
    finally:
        capture.release()
    reading.counters.damaged += damaged
    if reading.closed:
        return
    if came == 0:
        raise EdgeError(f"{name} is damaged or neither a picture nor a video; give JPEG, PNG, WebP, MP4 or AVI")
    if damaged:
        reading.say(f"{name} is damaged: {came} pictures of about {max(total, came + damaged)} were read")
    elif came < total - max(2, total // 50):
        reading.say(f"{name} may be damaged: {came} pictures of about {total} were read")
