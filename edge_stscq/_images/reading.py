"""Picture files read: whole or not at all, upright, whatever their names say.

OpenCV turns JPEG, PNG, WebP and TIFF by EXIF and refuses what is cut short; pillow-heif (an extra) does so for HEIC. It
reads AVIF, too, but leaves it lying as it was held, so that is turned here by its own two properties.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_stscq._images.boxes import contents, find
from edge_stscq._images.exif import captured_ms
from edge_stscq._images.formats import picture_format, picture_size
from edge_stscq.errors import EdgeError, MissingExtraError

MOST_BYTES = 1 << 29
"""Longest file that is read; 512 MiB."""
MOST_PIXELS = 200_000_000
"""Largest picture that is decoded: what telephones take at most, and 0.6 GB as an array."""


@dataclass(frozen=True, eq=False)
class Photograph:
    """A decoded picture file: `image` is `uint8 [H, W, 3]`, RGB, upright.

    `captured_ms` is when it was taken, in milliseconds since 1970 UTC by the clock of what took it; None if the file
    does not say.
    """

    image: NDArray[np.uint8]
    captured_ms: int | None


def decode_photograph(data: bytes) -> Photograph | None:
    """Picture and time of capture of a file's bytes; None if they are damaged, cut short or no picture.

    Raises:
        EdgeError: the picture is too large.
        MissingExtraError: it is HEIC, and pillow-heif is not installed.
    """
    name = picture_format(data)
    size = picture_size(data, name) if name else None
    if name is None or size is None:
        return None
    if size[0] * size[1] > MOST_PIXELS:
        raise EdgeError(f"{size[0]} x {size[1]} pixels are too many; make it smaller, {MOST_PIXELS:,} are read")
    if name == "HEIC":
        return _heic(data)
    try:
        with opencv_silenced():
            image, kinds, blocks = cv2.imdecodeWithMetadata(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    if image is None:
        return None
    exif = {kind: block.tobytes() for kind, block in zip(kinds, blocks, strict=True)}.get(cv2.IMAGE_METADATA_EXIF)
    rgb = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
    if name == "AVIF":
        rgb = _turned(rgb, data)
    return Photograph(rgb, captured_ms(data if name == "TIFF" else exif or b""))


def decode_image(data: bytes) -> NDArray[np.uint8] | None:
    """Picture `uint8 [H, W, 3]` of a file's bytes, upright; None if they are damaged or no picture.

    Raises:
        EdgeError: the picture is too large, or HEIC without the extra that reads it.
    """
    decoded = decode_photograph(data)
    return None if decoded is None else decoded.image


def load_photograph(file: BinaryIO, name: str) -> Photograph:
    """Read one picture file that is open at its beginning; `name` says in a message which it is.

    Raises:
        EdgeError: the file is truncated, damaged, too large or not a picture.
    """
    data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise EdgeError(f"{name} is too large for a picture; files of up to {MOST_BYTES >> 20} MiB are read")
    try:
        decoded = decode_photograph(data)
    except EdgeError as error:
        raise type(error)(f"{name}: {error}") from None
    if decoded is None:
        raise EdgeError(f"{name} is damaged or not a picture; give a whole JPEG, PNG or WebP file")
    return decoded


def read_image(path: Path | str) -> NDArray[np.uint8]:
    """Read one picture file as `uint8 [H, W, 3]` in RGB, upright. Its format is told by the content, not the name.

    Raises:
        EdgeError: the file is missing, truncated, damaged, too large or not a picture.

    Example:
        >>> crop = align(read_image("portrait.png"))
    """
    try:
        with open(path, "rb") as file:
            return load_photograph(file, str(path)).image
    except OSError as error:
        raise EdgeError(f"{path} cannot be read: {error.strerror}; check the path") from None


def _heic(data: bytes) -> Photograph | None:
    """The whole picture, put together from its tiles and turned, which pillow-heif does."""
    try:
        import pillow_heif
    except ImportError:
        raise MissingExtraError("HEIC is not read; run: pip install 'edge-stscq[heic]'") from None
    try:
        opened = pillow_heif.open_heif(data)
        image = np.asarray(opened.to_pillow().convert("RGB"), np.uint8)
    except (ValueError, RuntimeError, OSError, EOFError, SyntaxError):
        return None
    return Photograph(image, captured_ms(opened.info.get("exif") or b""))


def _turned(image: NDArray[np.uint8], data: bytes) -> NDArray[np.uint8]:
    """An AVIF picture turned by `irot` and mirrored by `imir` (ISO/IEC 23008-12), in this order."""
    file = io.BytesIO(data)
    angle, axis = (
        [contents(file, box)[0] for box in find(file, 0, len(data), b"meta", b"iprp", b"ipco", kind)]
        for kind in (b"irot", b"imir")
    )
    turned = np.rot90(image, angle[0] & 3) if angle else image
    if axis:
        turned = turned[:, ::-1] if axis[0] & 1 else turned[::-1]
    return np.ascontiguousarray(turned)


@contextmanager
def opencv_silenced() -> Iterator[None]:
    """Keep OpenCV's log, which tells of damaged pictures in several lines each, off the terminal."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)
