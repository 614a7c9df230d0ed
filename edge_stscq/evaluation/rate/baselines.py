"""Baseline codecs: picture codecs and intra-coded video, each driven down to its smallest sizes.

A codec may code a smaller picture than the crop; it is shrunk by area and enlarged again by bicubic interpolation. Two
sizes are counted for each picture. *Container* is what the codec writes. *Payload* leaves out everything that two ends
could agree on beforehand (tables, boxes, parameter sets), as our own payload does, so it is kind to the peer.
"""

import io
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module, metadata
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_stscq.config.codec import CROP
from edge_stscq.errors import EdgeError, require

EXTRA = "bench"
_START = 4
"""Bytes of the start code before a unit of a raw video stream."""


class Coded(NamedTuple):
    """N pictures after one codec."""

    images: NDArray[np.uint8]
    """As they come back, [N, S, S, 3] RGB."""
    container: NDArray[np.int64]
    """Bytes of each, [N]."""
    payload: NDArray[np.int64]
    """Bytes of each that depend on the picture, [N]."""


@dataclass(frozen=True)
class BaselineCodec:
    """One codec.

    Attributes:
        package: distribution that brings it.
        module: what must be importable.
        settings: picture sides and quality settings to try: those around the codec's own convex hull below 3 kB.
        code: codes pictures uint8 [N, S, S, 3] at one quality.
    """

    name: str
    package: str
    module: str
    settings: tuple[tuple[int, int], ...]
    code: Callable[[NDArray[np.uint8], int], Coded]

    @property
    def version(self) -> str:
        return f"{self.package} {metadata.version(self.package)}"

    def run(self, crops: NDArray[np.uint8], side: int, quality: int) -> Coded:
        """Code crops uint8 [N, 128, 128, 3] as pictures of `side` pixels; they come back in the size of the crop.

        Raises:
            MissingExtraError: the codec's package is not installed.
            EdgeError: the codec failed.
        """
        require(self.module, EXTRA)
        small = np.stack([_resized(crop, side, cv2.INTER_AREA) for crop in crops])
        coded = self.code(small, quality)
        return coded._replace(images=np.stack([_resized(image, CROP, cv2.INTER_CUBIC) for image in coded.images]))


def _resized(image: NDArray[np.uint8], side: int, how: int) -> NDArray[np.uint8]:
    return image if len(image) == side else np.asarray(cv2.resize(image, (side, side), interpolation=how), np.uint8)


def _each(
    code: Callable[[NDArray[np.uint8], int], tuple[bytes, int, NDArray[np.uint8]]],
    images: NDArray[np.uint8],
    quality: int,
) -> Coded:
    """A codec that takes one picture and gives its file, the bytes of its payload and the picture that comes back."""
    files, payloads, pictures = zip(*(code(image, quality) for image in images), strict=True)
    return Coded(np.stack(pictures), np.array([len(file) for file in files]), np.array(payloads))


def _pillow(
    kind: str, options: Callable[[int], dict[str, Any]], payload: Callable[[bytes], int]
) -> Callable[[NDArray[np.uint8], int], Coded]:
    def code(image: NDArray[np.uint8], quality: int) -> tuple[bytes, int, NDArray[np.uint8]]:
        pillow = import_module("PIL.Image")
        file = io.BytesIO()
        pillow.fromarray(image).save(file, kind, **options(quality))
        data = file.getvalue()
        return data, payload(data), np.asarray(pillow.open(io.BytesIO(data)).convert("RGB"))

    return partial(_each, code)


def _jpeg_scan(data: bytes) -> int:
    """Entropy-coded bytes of a baseline JPEG: behind the header of its only scan, before the end marker."""
    at = 2
    while data[at + 1] != 0xDA:
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return len(data) - 2 - (at + 2 + int.from_bytes(data[at + 2 : at + 4], "big"))


def _jpeg2000_tile(data: bytes) -> int:
    """Bytes of a codestream between the start-of-data marker of its only tile and the end marker."""
    return len(data) - 2 - (data.index(b"\xff\x93") + 2)


def _webp_frame(data: bytes) -> int:
    """Bytes of the VP8 chunk of a RIFF file."""
    return int.from_bytes(data[16:20], "little")


def _media_data(data: bytes) -> int:
    """Bytes in the `mdat` boxes of an ISO base media file."""
    at = total = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"mdat":
            total += size - 8
        at += max(size, 8)
    return total


def _jpegxl(image: NDArray[np.uint8], quality: int) -> tuple[bytes, int, NDArray[np.uint8]]:
    codecs = import_module("imagecodecs")
    data = codecs.jpegxl_encode(image, level=quality, effort=7)  # a bare codestream
    return data, len(data), np.asarray(codecs.jpegxl_decode(data), np.uint8)


def _video(kind: str, options: tuple[str, ...], images: NDArray[np.uint8], quality: int) -> Coded:
    """Code pictures as the intra-coded frames of a raw video stream, by ffmpeg."""
    ffmpeg = import_module("imageio_ffmpeg").get_ffmpeg_exe()
    side, raw = images.shape[1], ("-f", "rawvideo", "-pix_fmt", "rgb24")
    chosen = [option.format(quality) for option in options]
    stream = _run(
        [ffmpeg, *raw, "-s", f"{side}x{side}", "-i", "-", "-sws_flags", "accurate_rnd", *chosen, "-f", kind, "-"],
        images.tobytes(),
    )
    back = _run([ffmpeg, "-f", kind, "-i", "-", "-sws_flags", "accurate_rnd", *raw, "-"], stream)
    container, payload = [], []
    headers = 0
    for unit in _units(stream):
        is_picture = (unit[0] >> 1 & 63) < 32 if kind == "hevc" else unit[1] >> 3 < 12
        if is_picture:
            container.append(headers + _START + len(unit))
            payload.append(len(unit))
            headers = 0
        else:
            headers += _START + len(unit)
    if len(payload) != len(images) or len(back) != images.size:
        raise EdgeError(f"{kind}: {len(images)} pictures of {side} px became {len(payload)}; ffmpeg dropped some")
    pictures = np.frombuffer(back, np.uint8).reshape(images.shape)
    return Coded(pictures, np.array(container), np.array(payload))


def _units(stream: bytes) -> Iterator[bytes]:
    """Network abstraction layer units of an Annex B byte stream."""
    start = stream.find(b"\0\0\1")
    while start >= 0:
        end = stream.find(b"\0\0\1", start + 3)
        yield stream[start + 3 : len(stream) if end < 0 else end].rstrip(b"\0")
        start = end


def _run(command: list[str], data: bytes) -> bytes:
    done = subprocess.run([command[0], "-v", "error", *command[1:]], input=data, capture_output=True, check=False)
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise EdgeError(f"ffmpeg failed: {last[0]}")
    return done.stdout


def _grid(sides: tuple[int, ...], qualities: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    return tuple((side, quality) for side in sides for quality in qualities)


_X265 = ("-pix_fmt", "yuv420p", "-c:v", "libx265", "-preset", "slow",
         "-x265-params", "keyint=1:qp={}:info=0:log-level=none")  # fmt: skip
_VVENC = ("-pix_fmt", "yuv420p10le", "-c:v", "libvvenc", "-preset", "fast", "-qp", "{}",
          "-vvenc-params", "intraperiod=1")  # fmt: skip

BASELINES = (
    BaselineCodec(
        "JPEG", "pillow", "PIL", _grid((32, 48, 64), (10, 25, 50)),
        _pillow("JPEG", lambda quality: {"quality": quality, "optimize": True}, _jpeg_scan),
    ),
    BaselineCodec(
        "JPEG 2000", "pillow", "PIL", _grid((48, 64, 128), (30, 45, 120)),
        _pillow(
            "JPEG2000",
            lambda ratio: {"no_jp2": True, "irreversible": True, "quality_mode": "rates", "quality_layers": [ratio]},
            _jpeg2000_tile,
        ),
    ),
    BaselineCodec(
        "WebP", "pillow", "PIL", _grid((32, 48, 64), (0, 20, 50)),
        _pillow("WEBP", lambda quality: {"quality": quality, "method": 6}, _webp_frame),
    ),
    BaselineCodec(
        "AVIF", "pillow", "PIL", _grid((32, 48, 64), (20, 40, 60)),
        _pillow("AVIF", lambda quality: {"quality": quality, "speed": 6}, _media_data),
    ),
    BaselineCodec("JPEG XL", "imagecodecs", "imagecodecs", _grid((32, 48, 64), (10, 40, 70)), partial(_each, _jpegxl)),
    BaselineCodec(
        "HEVC intra", "imageio-ffmpeg", "imageio_ffmpeg", _grid((32, 48, 64), (44, 38, 32)),
        partial(_video, "hevc", _X265),
    ),
    BaselineCodec(
        "VVC intra", "imageio-ffmpeg", "imageio_ffmpeg", _grid((32, 48, 64), (44, 38, 32)),
        partial(_video, "vvc", _VVENC),
    ),
)  # fmt: skip


def find(names: list[str]) -> tuple[BaselineCodec, ...]:
    """The peers of these names, in any case and without blanks or hyphens; all of them for no names.

    Raises:
        EdgeError: a name is unknown.
    """
    known = {_plain(peer.name): peer for peer in BASELINES}
    for name in names:
        if _plain(name) not in known:
            raise EdgeError(f"unknown codec {name!r}; choose from {', '.join(peer.name for peer in BASELINES)}")
    return tuple(known[_plain(name)] for name in names) or BASELINES


def _plain(name: str) -> str:
    return name.lower().replace(" ", "").replace("-", "").removesuffix("intra")
