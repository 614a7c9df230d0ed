"""Vectors of the wire format: `python -m tests.support.wire_vectors` writes docs/spec/wire-2.json anew."""

import json
from pathlib import Path

import numpy as np

from edge_stscq.stream import CodedFace, FrameCodec, Tables
from edge_stscq.stream.envelope import Clock, Kind, Source, WireFrame, stream_id
from edge_stscq.stream.wire import read_stream, write_sections, write_stream

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
    refused = {
        "version 3": b"STSQ\x03", "cut in a frame": good[:-1], "a bit of a payload": _flip(good, -5),
        "a bit of the header": _flip(good, 12), "no section": b"STSQ\x02\x01\x00\x00\x00\x00\x00",
        "length not in its shortest form": b"STSQ\x02\x00\x80\x00",
    }  # fmt: skip
    return {
        "tables": {
            "group_frequencies": frequencies.group_frequencies.tolist(),
            "frequencies": frequencies.frequencies.tolist(),
            "layer_ends": list(frequencies.layer_ends),
        },
        "streams": [_vector(name, data) for name, data in (made | {"two streams in one": two}).items()],
        "payloads": [
            {"payload": face(group, *tokens).hex(), "layers": len(tokens) // 2, "group": group, "tokens": list(tokens)}
            for group, *tokens in ([0, 0, 0], [1, 4, 4], [2, 0, 1, 2, 3], [0, 1, 2, 3, 4, 0, 1], [2, 4, 4, 4, 4, 4, 4])
        ],
        "refused": [{"name": name, "stream": data.hex()} for name, data in refused.items()],
    }


def _flip(data: bytes, place: int) -> bytes:
    flipped = bytearray(data)
    flipped[place] ^= 4
    return bytes(flipped)


def _vector(name: str, data: bytes) -> dict[str, object]:
    frames = list(read_stream(data))
    return {"name": name, "stream": data.hex(), "frames": [described(frame) for _, frame in frames]}


if __name__ == "__main__":
    PATH.write_text(json.dumps(make(), indent=1) + "\n")
