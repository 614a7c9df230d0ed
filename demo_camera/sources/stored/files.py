"""Pictures of one file: a picture, a film, or JPEG pictures one after the other."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from demo_camera.sources.jpegs import CHUNK, holds_several, jpeg_pictures
from demo_camera.sources.names import printable
from demo_camera.sources.picture import Picture
from demo_camera.sources.reading import Reading
from demo_camera.sources.stored.containers import HEAD, is_video
from demo_camera.sources.stored.films import film_pictures
from edge_stscq._images import load_photograph, picture_format
from edge_stscq.errors import EdgeError
from edge_stscq.stream import Clock


class ForeignFileError(EdgeError):
    """A file that is neither a picture nor a video."""


def file_pictures(path: Path, name: str, reading: Reading) -> Iterator[Picture]:
    """Yield the pictures of one file by what it contains; `name` is what pictures and messages call it.

    Raises:
        ForeignFileError: it is neither a picture nor a video.
        MissingExtraError: it is HEIC, and pillow-heif is not installed.
        EdgeError: it cannot be read, or is damaged so that nothing comes of it.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
            file.seek(0)
            kind = picture_format(head)
            if kind == "JPEG" and holds_several(file):
                yield from jpeg_pictures(iter(partial(file.read, CHUNK), b""), name, reading, live=False)
            elif kind is not None:
                taken = load_photograph(file, name)
                clock = None if taken.captured_ms is None else Clock.UNSYNCHRONIZED
                yield Picture(name, taken.image, taken.captured_ms, clock)
            elif is_video(head):
                yield from film_pictures(file, name, reading)
            else:
                raise ForeignFileError(
                    f"{name} is damaged or neither a picture nor a video; give JPEG, PNG, WebP, MP4 or AVI"
                )
    except OSError as error:
        raise EdgeError(f"{printable(str(path))} cannot be read: {error.strerror}; check the path") from None
