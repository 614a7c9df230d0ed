"""Vectors of the wire format: `python -m tests.support.wire_vectors` writes docs/spec/wire-2.json anew."""

import json
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edge_stscq.stream import CodedFace, FrameCodec, Tables
from edge_stscq.stream._varint import encode_varint
from edge_stscq.stream.entropy import EntropyModel, model_id
from edge_stscq.stream.envelope import Clock, Kind, Source, WireFrame, device_stream_id, stream_id
from edge_stscq.stream.learned import Learned
from edge_stscq.stream.packed import PACKED_OR_STATIC, Packed
from edge_stscq.stream.wire import PREAMBLE, read_frames, write_sections, write_stream
from tests.support.models.learned_weights import draw_weights

PATH = Path(__file__).parents[2] / "docs/spec/wire-2.json"
KEY, OTHER_KEY = bytes(range(16)), bytes(range(16, 32))
MODEL = bytes.fromhex("0123456789abcdef")
NOON = 1_790_000_000_000


def described(frame: WireFrame) -> dict[str, object]:
    """All that a reader finds in a frame."""
    source = frame.source
    return {
        "stream_id": source.stream_id.hex(), "number": frame.number, "device": source.device,
        "model_id": source.model_id.hex(), "coder_id": source.coder_id.hex(), "kind": int(source.kind),
        "clock": int(source.clock), "captured_ms": frame.captured_ms, "track": frame.track, "quality": frame.quality,
        "layers": frame.layers, "extensions": frame.extensions.hex(), "payload": frame.payload.hex(),
        "checksum": frame.checksum,
    }  # fmt: skip


def tables() -> Tables:
    """Tables of a model with 3 groups, 6 positions in layers that end at 2, 4 and 6, and 5 entries."""
    counts = np.arange(3 * 6 * 5).reshape(3, 6, 5) ** 2 % 97
    return Tables.from_counts(counts, [5, 1, 2], (2, 4, 6))


def make() -> dict[str, object]:
    frequencies = tables()
    codec = FrameCodec(frequencies, MODEL)

    def face(group: int, *tokens: int) -> bytes:
        coded = CodedFace(group, np.array(tokens), len(tokens) // 2)
        frame = codec.encode_frame(coded)
        return frame[2:-4]

    at = Source(stream_id(KEY), "door-1", MODEL, clock=Clock.SYNCHRONIZED)
    plain = Source(stream_id(KEY), "door-1", MODEL)
    guess = Source(stream_id(KEY), "a" * 64, MODEL, clock=Clock.UNSYNCHRONIZED)
    template = Source(stream_id(KEY), "door-1", MODEL, kind=Kind.PROTECTED, clock=Clock.SYNCHRONIZED)
    learned = Source(stream_id(KEY), "door-1", MODEL, bytes(range(8)), clock=Clock.SYNCHRONIZED)
    streams = {
        "no frames": [],
        "one face, no clock": [WireFrame(plain, 0, 3, face(0, 1, 2, 3, 4, 0, 1))],
        "three faces of two visits": [
            WireFrame(at, 7, 1, face(1, 4, 4), NOON, 0, 80),
            WireFrame(at, 8, 2, face(2, 0, 0, 1, 1), NOON + 1500, 1, 55),
            WireFrame(at, 9, 3, face(0, 0, 1, 2, 3, 4, 0), NOON + 1400, 0, 100),
        ],
        "a later layer, a gap in numbers, an hour's pause": [
            WireFrame(at, 7, 3, face(1, 4, 4, 0, 0, 1, 1), NOON), WireFrame(at, 20, 1, face(0, 0, 0), NOON + 10),
            WireFrame(at, 21, 1, face(0, 0, 0), NOON + 3_600_000),
        ],
        "a track of long ago, none, and one without quality": [
            WireFrame(at, 0, 1, face(0, 1, 1), NOON, 40, 1), WireFrame(at, 1, 1, face(0, 1, 1), NOON, 33),
            WireFrame(at, 2, 1, face(0, 1, 1), NOON, None, 0), WireFrame(at, 3, 1, face(0, 1, 1), NOON, 28),
        ],
        "a long name, a clock that nothing set, the largest values": [
            WireFrame(guess, 2**53 - 1, 1, face(0, 1, 1), 2**48 - 1, 2**32 - 2, 100)
        ],
        "extensions": [
            WireFrame(at, 0, 1, face(0, 1, 1), NOON, extensions=bytes.fromhex("0502cafe")),
            WireFrame(at, 1, 1, face(0, 1, 1), NOON, extensions=bytes.fromhex("05008500")),
        ],
        "a protected template and another coder": [
            WireFrame(template, 0, 1, bytes(range(41)), NOON), WireFrame(learned, 1, 15, bytes(200), NOON),
        ],
    }  # fmt: skip
    made = {name: write_stream(frames, KEY) for name, frames in streams.items()}
    two = made["one face, no clock"] + write_sections(
        [WireFrame(Source(stream_id(OTHER_KEY), "door-1", MODEL), 0, 1, face(0, 1, 1))], OTHER_KEY
    )
    good = made["three faces of two visits"]
    payloads = ([0, 0, 0], [1, 4, 4], [2, 0, 1, 2, 3], [0, 1, 2, 3, 4, 0, 1], [2, 4, 4, 4, 4, 4, 4])
    return {
        "tables": {
            "group_frequencies": frequencies.group_frequencies.tolist(),
            "frequencies": frequencies.frequencies.tolist(),
            "layer_ends": list(frequencies.layer_ends),
        },
        "streams": [_vector(name, data) for name, data in (made | {"two streams in one": two}).items()],
        "refused": [{"rule": rule, "file": data.hex()} for rule, data in _refused(good).items()],
        "payloads": [
            {"payload": face(group, *tokens).hex(), "layers": len(tokens) // 2, "group": group, "tokens": list(tokens)}
            for group, *tokens in payloads
        ],
        "refused_payloads": [
            {"rule": "a zero byte more", "layers": 1, "payload": (face(1, 4, 4) + b"\0").hex()},
            {"rule": "a longer string of the same interval", "layers": 1, "payload": (face(1, 4, 4) + b"\1").hex()},
            {"rule": "more than 2 n bytes", "layers": 1, "payload": bytes(7).hex()},
            {"rule": "layers beyond the model's", "layers": 4, "payload": face(0, 0, 0).hex()},
        ],
        "packing_id": PACKED_OR_STATIC.hex(),
        "packed": [_payload(Packed(frequencies), group, *tokens) for group, *tokens in (*payloads, *_RARE)],
        "refused_packed": [
            {"rule": "a number beyond the last face", "layers": 1, "payload": (3 * 5**2).to_bytes(1).hex()},
            {"rule": "a number whose face has a shorter payload", "layers": 2, "payload": (79).to_bytes(2).hex()},
            {"rule": "more bytes than the number", "layers": 1, "payload": bytes(2).hex()},
        ],
        "learned": _learned(frequencies, payloads),
        "model_ids": [_model_id_vector(frequencies)],
        "version_1": {
            "file": codec.encode_stream([CodedFace(1, np.array([4, 4]), 1)]).hex(), "device": "door-1",
            "stream_id": device_stream_id("door-1").hex(), "group": 1, "tokens": [4, 4], "layers": 1,
        },
    }  # fmt: skip


_RARE = ([0, 0, 1], [0, 0, 0, 0, 1], [2, 4, 4, 4, 2])
"""Faces that these tables make longer than their number."""


def _payload(coder: EntropyModel, group: int, *tokens: int) -> dict[str, object]:
    face = CodedFace(group, np.array(tokens), len(tokens) // 2)
    return {"payload": coder.encode(face).hex(), "layers": face.layers, "group": group, "tokens": list(tokens)}


def _learned(frequencies: Tables, payloads: Sequence[list[int]]) -> dict[str, object]:
    """A learned coder for these tables, and payloads of the same faces, the rare ones among them."""
    weights = draw_weights(frequencies)
    coder = Packed(Learned(weights, frequencies))
    return {
        "weights": {name: array.tolist() for name, array in weights.arrays().items()},
        "coder_id": Learned(weights, frequencies).coder_id.hex(),
        "payloads": [_payload(coder, group, *tokens) for group, *tokens in (*payloads, *_RARE)],
    }


def _model_id_vector(frequencies: Tables) -> dict[str, object]:
    books = (np.arange(3 * 6 * 5 * 2, dtype=np.float32) / 4).reshape(3, 6, 5, 2).astype(np.float32)
    return {"books": books.tolist(), "tables": "those above", "model_id": model_id(books, frequencies).hex()}


def _refused(good: bytes) -> dict[str, bytes]:
    """Damaged files by the rule they break; CRC that are not the point are right."""
    plain = bytes([0, 0]) + MODEL + bytes(8) + KEY + b"\x06door-1"
    timed = bytes([2]) + plain[1:]
    judged, tracked = bytes([4]) + plain[1:], bytes([8]) + plain[1:]
    name = plain.index(b"\x06door-1")

    def file(header: bytes, frame: bytes = b"") -> bytes:
        marked = b"\0" + encode_varint(len(header)) + header
        return PREAMBLE + marked + zlib.crc32(marked).to_bytes(4, "little") + frame

    def one(header: bytes, before: bytes, quality: int = 255, time: int = 0, number: int = 0, track: int = 0) -> bytes:
        """A file of one frame, `before` and an empty payload, with the checksum of what it says."""
        absolute = b"".join((
            b"STSQ\2", bytes([header[0] & 3, 0]), MODEL, bytes(8), stream_id(KEY), b"\x06door-1",
            (number % 2**64).to_bytes(8, "little"), (time % 2**64).to_bytes(8, "little"),
            (track % 2**32).to_bytes(4, "little"), bytes([quality, before[0] & 15, 0, 0, 0]),
        ))  # fmt: skip
        return file(header, before + zlib.crc32(absolute).to_bytes(4, "little"))

    assert len(list(read_frames(one(plain + b"\0", b"\1\0")))) == 1
    return {
        "version 3": b"STSQ\x03",
        "cut in a frame": good[:-1],
        "cut in a header": good[:20],
        "a bit of a payload": _flip(good, -5),
        "a bit of a header": _flip(good, 12),
        "a frame before any section": PREAMBLE + b"\1\0" + bytes(4),
        "length of the header not in its shortest form": PREAMBLE + b"\0\xaa\x80\0" + bytes(60),
        "clock 3": file(bytes([3]) + plain[1:] + b"\0\0"),
        "an unknown flag": file(bytes([16]) + plain[1:] + b"\0"),
        "no name": file(plain[:name] + b"\0\0"),
        "a name with a slash": file(plain[:name] + b"\1/\0"),
        "a name of 65 letters": file(plain[:name] + b"\x41" + b"a" * 65 + b"\0"),
        "a number above 2^53 - 1": file(plain + encode_varint(2**53)),
        "a time of 2^48": file(timed + b"\0" + encode_varint(2**48)),
        "a track field of 2^32": file(tracked + b"\0" + encode_varint(2**32)),
        "number not in its shortest form": file(plain + b"\x80\0"),
        "256 bytes of extensions": file(plain + b"\0" + b"\1\xfe" + bytes(254)),
        "an extension cut off": file(plain + b"\0" + b"\1\2\0"),
        "extension types that do not rise": file(plain + b"\0" + b"\2\0\2\0"),
        "layers 0": one(plain + b"\0", b"\x10\0"),
        "length not in its shortest form": one(plain + b"\0", b"\1\x80\0"),
        "extensions announced and none there": one(plain + b"\0", b"\x81\0\0"),
        "quality 101": one(judged + b"\0", b"\1\x65\0", quality=101),
        "a track without the header's bit": one(plain + b"\0", b"\x11\0", track=1),
        "a track below 0": one(tracked + b"\0\0", b"\x21\0", track=0),
        "a time below 0": one(timed + b"\0\0", b"\1\1\0", time=-1),
        "a time of 2^48 by a frame": one(timed + b"\0" + encode_varint(2**48 - 1), b"\1\2\0", time=2**48),
        "a number of 2^53 by a second frame": one(plain + encode_varint(2**53 - 1), b"\1\0", number=2**53 - 1)
        + one(plain + b"\0", b"\1\0", number=2**53)[-6:],
    }


def _flip(data: bytes, place: int) -> bytes:
    flipped = bytearray(data)
    flipped[place] ^= 4
    return bytes(flipped)


def _vector(name: str, data: bytes) -> dict[str, object]:
    frames = list(read_frames(data))
    return {"name": name, "file": data.hex(), "frames": [described(frame) for _, frame in frames]}


if __name__ == "__main__":
    PATH.write_text(json.dumps(make(), indent=1) + "\n")
