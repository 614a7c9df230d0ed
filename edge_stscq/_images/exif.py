"""Time of capture in EXIF data (CIPA DC-008): a bounded reader of the three tags that say it."""

import struct
from datetime import datetime, timedelta, tzinfo

_EXIF, _ORIGINAL, _DIGITIZED = 0x8769, 0x9003, 0x9004
_OFFSETS = {_ORIGINAL: 0x9011, _DIGITIZED: 0x9012}
_FRACTIONS = {_ORIGINAL: 0x9291, _DIGITIZED: 0x9292}
_ASCII, _LONG, _IFD = 2, 4, 13
_MOST = 1000
"""Entries of a directory that are looked at."""


def captured_ms(exif: bytes) -> int | None:
    """Milliseconds since 1970 UTC at which the picture was taken; None if the data do not say.

    The time that the shutter opened, or that a scanner digitized; never the one of the last change. Without an offset
    from UTC in the data it is local time of this machine.
    """
    if exif[:6] == b"Exif\0\0":
        exif = exif[6:]
    try:
        order = {b"II": "<", b"MM": ">"}[exif[:2]]
        top = _directory(exif, order, struct.unpack_from(order + "I", exif, 4)[0])
        tags = _directory(exif, order, struct.unpack(order + "I", top[_EXIF])[0])
    except (struct.error, KeyError):
        return None
    for tag in (_ORIGINAL, _DIGITIZED):
        moment = _moment(_text(tags.get(tag)), _text(tags.get(_OFFSETS[tag])), _text(tags.get(_FRACTIONS[tag])))
        if moment is not None:
            return moment
    return None


def _directory(exif: bytes, order: str, start: int) -> dict[int, bytes]:
    """Values of the entries of one directory that are text or a position."""
    (count,) = struct.unpack_from(order + "H", exif, start)
    found = {}
    for entry in range(start + 2, start + 2 + 12 * min(count, _MOST), 12):
        tag, kind, length = struct.unpack_from(order + "HHI", exif, entry)
        if kind in (_LONG, _IFD) and length == 1:
            found[tag] = exif[entry + 8 : entry + 12]
        elif kind == _ASCII and length <= 64:
            at = entry + 8 if length <= 4 else struct.unpack_from(order + "I", exif, entry + 8)[0]
            found[tag] = exif[at : at + length]
    return found


def _text(value: bytes | None) -> str:
    return (value or b"").split(b"\0")[0].decode("ascii", "replace").strip()


def _moment(text: str, offset: str, fraction: str) -> int | None:
    try:
        moment = datetime.strptime(text, "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None
    if fraction.isascii() and fraction.isdigit():
        moment += timedelta(seconds=float(f"0.{fraction}"))
    try:
        zone = _zone(offset)
        moment = moment.astimezone() if zone is None else moment.replace(tzinfo=zone)
        milliseconds = round(moment.timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        return None
    return milliseconds if milliseconds > 0 else None


def _zone(offset: str) -> tzinfo | None:
    try:
        return datetime.strptime(offset, "%z").tzinfo
    except ValueError:
        return None
