"""Read version-2 streams of the wire format, written from wire.md and wire-2.json alone."""

import re
from hashlib import sha256
from itertools import accumulate, pairwise
from struct import pack
from typing import Any
from zlib import crc32

MAGIC = b"STSQ\x02"
MAX_NUMBER, MAX_TIME, MAX_TRACK = 2**53 - 1, 2**48 - 1, 2**32 - 2


def need(condition: bool, reason: str) -> None:
    """Raise ValueError with the reason unless the condition holds."""
    if not condition:
        raise ValueError(reason)


class Cursor:
    """A position in bytes, from which fields are read one by one."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, size: int) -> bytes:
        """The next bytes."""
        need(size <= len(self.data) - self.at, f"cut off at byte {len(self.data)}")
        self.at += size
        return self.data[self.at - size : self.at]

    def fixed(self, size: int = 1) -> int:
        """The next number of a fixed size."""
        return int.from_bytes(self.take(size), "little")

    def leb128(self, size: int, most: int) -> int:
        """The next LEB128 number, of at most so many bytes, in its shortest form."""
        value = 0
        for index in range(size):
            byte = self.fixed()
            value |= (byte & 0x7F) << 7 * index
            if byte < 0x80:
                need((byte > 0 or index == 0) and value <= most, f"a number above {most}, or not in its shortest form")
                return value
        raise ValueError(f"a number of more than {size} bytes")


def extension_types(extensions: bytes) -> list[int]:
    """The types of a string of extensions, which must rise."""
    cursor, types = Cursor(extensions), []
    while cursor.at < len(extensions):
        types.append(cursor.fixed())
        cursor.take(cursor.fixed())
    need(all(a < b for a, b in pairwise(types)), "extensions out of order")
    return types


class Section:
    """Header of a section, and the position that its frames have come to."""

    def __init__(self, cursor: Cursor) -> None:
        start = cursor.at
        need(cursor.fixed() == 0, "a section must begin with 0x00")
        header = Cursor(cursor.take(cursor.leb128(2, 2**14 - 1)))
        crc = crc32(cursor.data[start : cursor.at])
        need(cursor.fixed(4) == crc, "a damaged section header")
        self.flags = header.fixed()
        self.clock = self.flags & 3
        need(self.flags < 16 and self.clock < 3, f"unknown flags {self.flags:#04x}")
        self.kind, self.model_id, self.coder_id = header.fixed(), header.take(8), header.take(8)
        self.stream_id = sha256(b"edge-stscq stream\n" + header.take(16)).digest()[:16]
        self.device = header.take(header.fixed())
        need(re.fullmatch(rb"[A-Za-z0-9._-]{1,64}", self.device) is not None, "not a device name")
        self.number = header.leb128(8, MAX_NUMBER)
        self.time = header.leb128(7, MAX_TIME) if self.clock else 0
        self.tracks = header.leb128(5, MAX_TRACK + 1) if self.flags & 8 else 0
        extensions = header.data[header.at :]
        need(len(extensions) <= 255, "header extensions of more than 255 bytes")
        critical = [kind for kind in extension_types(extensions) if kind & 0x80]
        need(not critical, f"unknown-extension in a header: {critical}")

    def track_plus_one(self, code: int) -> int:
        """The track, plus one, that a track code means; 0 for none."""
        value = self.tracks + 2 - code if code else 0
        need(not code or (self.flags & 8 > 0 and 1 <= value <= MAX_TRACK + 1), f"track code {code} leads nowhere")
        self.tracks = max(self.tracks, value)
        return value

    def frame(self, cursor: Cursor) -> dict[str, Any]:
        """Read the next frame; whether its kind, coder, payload and extensions are known is not judged here."""
        control, number = cursor.fixed(), self.number
        layers = control & 15
        need(layers > 0, "a frame without layers")
        need(number <= MAX_NUMBER, f"a number above {MAX_NUMBER}")
        self.number += 1
        if self.clock:
            step = cursor.leb128(3, 2**21 - 1)
            self.time += -(step + 1 >> 1) if step & 1 else step >> 1
            need(0 <= self.time <= MAX_TIME, f"a time of {self.time} ms")
        quality = cursor.fixed() if self.flags & 4 else 255
        need(quality <= 100 or quality == 255, f"a quality of {quality}")
        track, length = self.track_plus_one(control >> 4 & 7), cursor.leb128(2, 2**14 - 1)
        extensions = cursor.take(cursor.fixed()) if control & 0x80 else b""
        need(bool(extension_types(extensions)) or control < 0x80, "extensions of no bytes")
        payload = cursor.take(length)
        known = MAGIC + bytes([self.clock, self.kind]) + self.model_id + self.coder_id + self.stream_id
        known += bytes([len(self.device)]) + self.device + pack("<QQIBB", number, self.time, track, quality, layers)
        known += bytes([len(extensions)]) + extensions + pack("<H", length) + payload
        checksum = cursor.fixed(4)
        need(checksum == crc32(known), f"frame {number} is damaged")
        return {
            "stream_id": self.stream_id.hex(), "number": number, "device": self.device.decode(), "kind": self.kind,
            "model_id": self.model_id.hex(), "coder_id": self.coder_id.hex(), "clock": self.clock, "layers": layers,
            "captured_ms": self.time if self.clock else None, "track": track - 1 if track else None,
            "quality": None if quality == 255 else quality, "extensions": extensions.hex(),
            "payload": payload.hex(), "checksum": checksum,
        }  # fmt: skip


def read(data: bytes) -> list[dict[str, Any]]:
    """All frames of a stream; ValueError where it is damaged."""
    cursor, frames, section = Cursor(data), [], None
    need(cursor.take(5) == MAGIC, "not a stream of version 2")
    while cursor.at < len(data):
        if section is None or data[cursor.at] == 0:
            section = Section(cursor)
        else:
            frames.append(section.frame(cursor))
    return frames


def tokens(payload: bytes, layers: int, tables: dict[str, Any]) -> tuple[int, list[int]]:
    """Group and tokens of a payload of kind 0 and coder 0; ValueError where it is not canonical."""
    need(1 <= layers <= len(tables["layer_ends"]), f"the model has no {layers} layers")
    count = 1 + tables["layer_ends"][layers - 1]
    need(len(payload) <= 2 * count, "a payload longer than any face needs")
    value = int.from_bytes(payload, "big") << 16 * count - 8 * len(payload)
    low, width, message = 0, 1, list[int]()
    for index in range(count):
        row = tables["frequencies"][message[0]][index - 1] if index else tables["group_frequencies"]
        target = (value >> 16 * (count - index - 1)) - (low << 16)
        starts = list(accumulate(row, initial=0))[:-1]
        symbol = max(s for s, start in enumerate(starts) if width * start <= target)
        message.append(symbol)
        low, width = (low << 16) + width * starts[symbol], width * row[symbol]
    shift = next(shift for shift in range(16 * count, -1, -8) if -(-low >> shift) << shift < low + width)
    canonical = (-(-low >> shift)).to_bytes(2 * count - shift // 8, "big")
    need(payload == canonical, "a payload that its own face does not make")
    return message[0], message[1:]
