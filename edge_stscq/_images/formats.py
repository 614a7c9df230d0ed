"""Format and size of a picture file, from its first bytes: a name says nothing about what is inside.

The size is read before anything is decoded, so that a small file that unfolds to a picture of gigabytes is refused.
"""

import io
import re
import struct
from collections.abc import Callable

from edge_stscq._images.boxes import contents, find

Size = tuple[int, int]
"""Width and height in pixels."""
_PNM = re.compile(rb"P([1-7])\s(?:\s*#[^\n]*\n)*\s*(\d{1,9})\s(?:\s*#[^\n]*\n)*\s*(\d{1,9})\s")
_PAM = re.compile(rb"WIDTH\s+(\d{1,9})\s[^\0]{0,200}?HEIGHT\s+(\d{1,9})\s")
_HEIC = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_AVIF = frozenset({b"avif", b"avis"})
HEAD = 64
"""Bytes of a file that say which format it is."""


def picture_format(head: bytes) -> str | None:
    """Name of the format of a picture file that begins with `head` (`HEAD` bytes are enough); None if it is none.

    Example:
        >>> picture_format(Path("portrait.jfif").read_bytes()[:HEAD])
        'JPEG'
    """
    for name, magic in _MAGIC.items():
        if head.startswith(magic):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[4:8] == b"ftyp":
        brands = {head[8:12], *(head[i : i + 4] for i in range(16, min(len(head), _length(head)), 4))}
        if brands & _AVIF:
            return "AVIF"
        return "HEIC" if brands & _HEIC else None
    if head[:2] == b"BM" and head[6:10] == b"\0\0\0\0":
        return "BMP"
    return "PNM" if re.match(rb"P[1-7]\s", head) else None


def picture_size(data: bytes, name: str) -> Size | None:
    """Width and height that the header of a picture file of a known format gives; None if it has none."""
    try:
        return _SIZES[name](data)
    except (struct.error, ValueError, IndexError):
        return None


def _length(head: bytes) -> int:
    return int.from_bytes(head[:4], "big")


def _jpeg(data: bytes) -> Size | None:
    at = 2
    while at + 9 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF or marker == 1 or 0xD0 <= marker <= 0xD8:
            at += 1 if marker == 0xFF else 2
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _png(data: bytes) -> Size:
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _webp(data: bytes) -> Size | None:
    kind, start = data[12:16], 20
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", data, start + 1)[0]
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, start + 6)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _gif(data: bytes) -> Size:
    width, height = struct.unpack_from("<HH", data, 6)
    return width, height


def _bmp(data: bytes) -> Size:
    if struct.unpack_from("<I", data, 14)[0] == 12:
        width, height = struct.unpack_from("<HH", data, 18)
    else:
        width, height = struct.unpack_from("<ii", data, 18)
    return abs(width), abs(height)


def _tiff(data: bytes) -> Size | None:
    sizes = {tag: value for tag, value in tiff_numbers(data).items() if tag in (256, 257)}
    return (sizes[256], sizes[257]) if len(sizes) == 2 else None


def tiff_numbers(data: bytes) -> dict[int, int]:
    """Tags of the first directory of a TIFF, or of EXIF data, that hold one whole number (16 or 32 bits)."""
    order = "<" if data[:2] == b"II" else ">"
    (magic,) = struct.unpack_from(order + "H", data, 2)
    if magic == 43:  # BigTIFF
        (start,) = struct.unpack_from(order + "Q", data, 8)
        (count,) = struct.unpack_from(order + "Q", data, start)
        at, step, value = start + 8, 20, 12
    else:
        (start,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, start)
        at, step, value = start + 2, 12, 8
    found = {}
    for entry in range(at, at + step * min(count, 1000), step):
        tag, kind = struct.unpack_from(order + "HH", data, entry)
        if kind in (3, 4):
            (found[tag],) = struct.unpack_from(order + "H" if kind == 3 else order + "I", data, entry + value)
    return found


def _boxed(data: bytes) -> Size | None:
    """The largest of the sizes: a grid has its own beside those of its tiles."""
    file = io.BytesIO(data)
    found = [contents(file, box) for box in find(file, 0, len(data), b"meta", b"iprp", b"ipco", b"ispe")]
    sizes = [struct.unpack_from(">II", body, 4) for body in found]
    return max(sizes, key=lambda size: size[0] * size[1], default=None)


def _jp2(data: bytes) -> Size | None:
    if data[:4] == b"\xff\x4f\xff\x51":
        right, bottom, left, top = struct.unpack_from(">IIII", data, 8)
        return right - left, bottom - top
    file = io.BytesIO(data)
    for box in find(file, 0, len(data), b"jp2h", b"ihdr"):
        height, width = struct.unpack_from(">II", contents(file, box))
        return width, height
    return None


def _pnm(data: bytes) -> Size | None:
    match = _PAM.search(data[:1000]) if data[:2] == b"P7" else _PNM.match(data[:4096])
    return None if match is None else (int(match[match.re.groups - 1]), int(match[match.re.groups]))


_MAGIC: dict[str, tuple[bytes, ...]] = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "JPEG 2000": (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
}
_SIZES: dict[str, Callable[[bytes], Size | None]] = {
    "JPEG": _jpeg, "PNG": _png, "WebP": _webp, "GIF": _gif, "BMP": _bmp, "TIFF": _tiff, "AVIF": _boxed, "HEIC": _boxed,
    "JPEG 2000": _jp2, "PNM": _pnm,
}  # fmt: skip
