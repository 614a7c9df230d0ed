"""The corpus and the dictionaries: small valid inputs of every kind, the same bytes every time.

    python -m fuzz.seeds

Tokens are drawn by chance and digests are made up; no picture of anybody is needed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

import numpy as np
import safetensors.numpy

from edge_stscq.bundle.manifest import (
    CODEBOOKS,
    GOLDEN,
    PROJECTION,
    SELF_HASH_FIELD,
    TABLES,
    Manifest,
    QuantizationSpec,
    RuntimeRange,
    TensorSpec,
)
from edge_stscq.config.codec import CodecConfig
from edge_stscq.protocol import MAX_SEQUENCE
from edge_stscq.stream import CodedFace, FrameCodec
from edge_stscq.stream.envelope import MAX_QUALITY, MAX_TIME, MAX_TRACK, Clock, Kind, Source, WireFrame, stream_id
from edge_stscq.stream.packed import PACKED_OR_STATIC
from edge_stscq.stream.wire import PREAMBLE, write_sections, write_stream
from fuzz import CORPUS, FOLDER
from fuzz.properties import MODEL, codec, learned

KEY, OTHER_KEY = bytes(range(16)), bytes(range(16, 32))
NOON = 1_790_000_000_000
WORDS: dict[str, tuple[bytes, ...]] = {
    "file": (
        b"STSQ\x02", b"\x00", b"\x02\x00", b"\x0e\x00", b"\x06door-1", b"\x81", b"\x91", b"\xf3", b"\x85\x00",
        b"\x02\x05\x00", b"\xff", b"\x65", b"\x80\x00", b"\xff\xff\x7f", b"\xff\xff\xff\xff\xff\xff\xff\x0f",
        b"\xff\xff\xff\xff\xff\xff\x3f", b"\xff\xff\xff\xff\x0f", b"\xff\xff\x01", KEY, bytes(8), codec().model_id,
    ),
    "stream": (b"STSQ\x01", b"\x01", b"\x02", b"\x03", b"\x80\x80\x80\x00"),
    "payload": (b"\x01", b"\x02", b"\x03", b"\x7f", b"\x80\x01", b"\xff\xff\xff\x7f"),
    "packed": (b"\x01", b"\x02", b"\x03", b"\x00\x00", b"\x01\xff", b"\xff\xff"),
    "learned": (b"\x01", b"\x02", b"\x03", b"\x00\x00", b"\x01\xff", b"\xff\xff"),
    "weights": (
        b'"words"', b'"bias"', b'"shifts"', b'"weights.2"', b'"weights.3"', b'"dtype":"I8"', b'"I32"', b'"U8"',
        b'"shape":[', b'"data_offsets":[0,', b"\x80", b"\x7f", b"\xff\xff\xff\xff",
    ),
    "manifest": tuple(
        f'"{name}"'.encode() for name in (*Manifest.model_fields, *CodecConfig.model_fields, SELF_HASH_FIELD)
    ),
    "request": (
        b"POST ", b"GET ", b"HEAD ", b"/v1/frames", b"/v1/faces", b"/v1/faces/", b".png", b"?layers=", b"&limit=",
        b"after=", b"/v1/models", b"/v1/match", b"/health", b"/ready", b"/openapi.json", b"\nedge-device:",
        b"\nedge-sequence:", b"\ncontent-length:", b"\nauthorization:Bearer stscq_", b"\nhost:", b"9007199254740991",
        b"\n\nSTSQ\x01", b"/v2/frames", b"\n\nSTSQ\x02", b"/v1/faces?before=", b"/v1/faces?since=", KEY,
    ),
}  # fmt: skip
"""Words that a mutation may put in."""


def faces(count: int, seed: int = 0) -> list[CodedFace]:
    """Faces of one layer, of two, and so on up to all, in turn."""
    draw, (groups, _, entries) = np.random.default_rng(seed), codec().entropy.shape
    ends = codec().entropy.layer_ends
    layers = [1 + number % len(ends) for number in range(count)]
    return [
        CodedFace(int(draw.integers(groups)), draw.integers(entries, size=ends[n - 1]).astype(np.uint16), n)
        for n in layers
    ]


def wire_frames(faces: Sequence[CodedFace], first: int = 0, key: bytes = KEY, **source: Any) -> list[WireFrame]:
    """Faces as they travel: some of visits, some judged, a second and a half apart unless there is no clock."""
    made = Source(stream_id(key), "door-1", codec().model_id, **{"clock": Clock.SYNCHRONIZED} | source)
    timed = made.clock != Clock.NONE
    return [
        WireFrame(
            made, first + n, face.layers, codec().payload(face), NOON + 1500 * n if timed else None,
            track=None if n % 4 == 3 else n // 2, quality=None if n % 3 == 2 else 10 * n % 101,
        )
        for n, face in enumerate(faces)
    ]  # fmt: skip


def files() -> list[bytes]:
    """Files of version 2: empty, without and with times, over gaps and tracks of long ago, of two streams, with
    extensions, of what only a newer program reads, and at the end of every range.
    """
    timed = wire_frames(faces(6))
    gaps = [replace(one, captured_ms=NOON + 3_600_000 * n * n, checksum=-1) for n, one in enumerate(timed[:3])]
    tracks = [replace(one, track=100 * (n % 2), checksum=-1) for n, one in enumerate(timed[:3])]
    extended = [replace(one, extensions=b"\x05\x02\xca\xfe", checksum=-1) for one in timed[:2]]
    critical = replace(timed[2], extensions=b"\x05\x00\x85\x01\x07", checksum=-1)
    template = WireFrame(replace(timed[0].source, kind=Kind.PROTECTED), 0, 1, bytes(41), NOON)
    shortest = replace(template, number=1, payload=b"\x02" + bytes(9), checksum=-1)
    longest = replace(template, number=2, payload=b"\x03" + bytes(511), extensions=b"\x05\x02\xca\xfe", checksum=-1)
    too_long = replace(template, number=3, payload=bytes(513), checksum=-1)
    coder = WireFrame(replace(timed[0].source, coder_id=b"learned!"), 1, 15, bytes(130), NOON)
    last = WireFrame(
        replace(timed[0].source, clock=Clock.UNSYNCHRONIZED, device="d" * 64), MAX_SEQUENCE, 3, timed[2].payload,
        MAX_TIME, MAX_TRACK, MAX_QUALITY,
    )  # fmt: skip
    return [
        PREAMBLE,
        write_stream(wire_frames(faces(3), clock=Clock.NONE), KEY),
        write_stream(timed, KEY),
        write_stream(gaps + tracks, KEY),
        write_stream(timed[:2], KEY) + write_sections(wire_frames(faces(2, seed=2), key=OTHER_KEY), OTHER_KEY),
        write_stream([*extended, critical], KEY),
        write_stream([template, coder], KEY),
        write_stream([last], KEY),
        write_stream([template, shortest, longest, too_long], KEY),
        write_stream(wire_frames(faces(3, seed=3)), KEY),
    ]


def manifests() -> list[Manifest]:
    """One of each precision."""
    config = CodecConfig.load(MODEL / "config.json")
    digest = sha256(b"made up").hexdigest()
    image = TensorSpec(name="image", shape=(1, 128, 128, 3), dtype="uint8", description="RGB, 0 to 255")
    group = TensorSpec(name="group", shape=(1,), dtype="int32", description="switched codebook set")
    tokens = TensorSpec(name="tokens", shape=(1, config.tokens), dtype="int32", description="codebook indices")
    quantized = QuantizationSpec(scheme="static int8", calibration_images=512, calibration_sha256=digest)
    return [
        Manifest(
            name=f"face64-{precision}", target=target, precision=precision, artefact=artefact,
            model_id=codec().model_id.hex(), config=config, inputs=(image,), outputs=(group, tokens),
            quantisation=None if precision == "fp32" else quantized, tool_versions={"torch": "2.13.0"},
            runtime=RuntimeRange(package="onnxruntime", minimum="1.22", maximum_exclusive="2"),
            files=dict.fromkeys((artefact, CODEBOOKS, TABLES, PROJECTION, GOLDEN), digest),
        )
        for precision, target, artefact in (
            ("int8", "onnx", "encoder.onnx"),
            ("w8", "executorch", "encoder.pte"),
            ("fp32", "coreml", "encoder.mlpackage"),
        )
    ]  # fmt: skip


def seeds() -> dict[str, list[bytes]]:
    """Inputs of each target."""
    three = faces(3)
    packing = FrameCodec(codec().entropy, codec().model_id, PACKED_OR_STATIC)
    learning = FrameCodec(codec().entropy, codec().model_id, learned().coder_id, learned())
    frames = [codec().encode_frame(face) for face in three]
    stream = codec().encode_stream(three)
    post = b"POST /v1/frames\nedge-device: cam\nedge-sequence: 0\n\n"
    post_file = b"POST /v2/frames\n\n"
    gets = ("v1/faces?limit=2", "v1/faces/cam-0.png", "v1/faces/cam-2.png?layers=2", "v1/models", "health", "ready")
    made = files()
    return {
        "file": made,
        "stream": [codec().header(), stream, *(codec().header() + frame for frame in frames)],
        "payload": [frame[:-4] for frame in frames],
        "packed": [bytes([face.layers]) + packing.payload(face) for face in faces(6, seed=4)],
        "learned": [bytes([face.layers]) + learning.payload(face) for face in faces(6, seed=4)] + likely(learning),
        "weights": [small_weights(count) for count in (1, 2, 3)],
        "manifest": [one.to_json().encode() for one in manifests()],
        "request": [
            post + stream, post + codec().header(), *(f"GET /{path}\n\n".encode() for path in gets),
            *(post_file + data for data in made),
        ],
    }  # fmt: skip


def likely(codec: FrameCodec) -> list[bytes]:
    """Layer counts and payloads of faces that the coder finds likely: of the first entry at every position."""
    ends = codec.entropy.layer_ends
    found = [CodedFace(1, np.zeros(end, np.uint16), layers) for layers, end in enumerate(ends, start=1)]
    return [bytes([face.layers]) + codec.payload(face) for face in found]


def small_weights(layers: int) -> bytes:
    """A file of a learned coder of two groups, with two positions a layer, three entries and one component."""
    tokens, draw = 2 * layers, np.random.default_rng(layers)
    arrays = {
        "words": draw.integers(-127, 128, (2, tokens, 3, 1)).astype(np.int8),
        "bias": draw.integers(-9999, 9999, (2, tokens, 2)).astype(np.int32),
        "shifts": draw.integers(0, 9, (tokens, 2)).astype(np.uint8),
    } | {f"weights.{n}": draw.integers(-127, 128, (2, 2, 2 * n - 2, 1)).astype(np.int8) for n in range(2, layers + 1)}
    return safetensors.numpy.save(arrays)


def dictionary(words: Iterable[bytes]) -> str:
    """Words as libFuzzer reads them."""
    return "".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in words)


def main() -> None:
    """Write fuzz/corpus and the dictionaries."""
    for name, inputs in seeds().items():
        folder = CORPUS / name
        folder.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(inputs):
            (folder / f"seed-{number}").write_bytes(data)
        (FOLDER / f"{name}.dict").write_text(dictionary(WORDS[name]))


if __name__ == "__main__":
    main()
