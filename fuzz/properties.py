"""Properties for any bytes: a reader gives back exactly what it read, or raises `EdgeError`. Nothing else is raised.

A property takes bytes and returns whether they were accepted. `AssertionError` and whatever is no `EdgeError` is a
defect.
"""

import tempfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import safetensors.numpy
from pydantic_core import from_json

from edge_stscq.bundle.manifest import MANIFEST, SELF_HASH_FIELD, Manifest, sealed_json
from edge_stscq.errors import EdgeError, FrameError
from edge_stscq.stream import EntropyModel, FrameCodec, Tables, model_id, protected_face, read_protected
from edge_stscq.stream.envelope import Kind, WireFrame
from edge_stscq.stream.frame import split_stream
from edge_stscq.stream.learned import Learned, Weights
from edge_stscq.stream.learned.weights import FILE as LEARNED
from edge_stscq.stream.packed import PACKED_OR_STATIC
from edge_stscq.stream.wire import PREAMBLE, read_frames, write_sections
from fuzz import FOLDER
from fuzz.sealing import sealed

MODEL = FOLDER.parent / "models" / "face64"
"""The model whose frames the committed corpus is made of."""


@cache
def codec() -> FrameCodec:
    """Frames of the released model, without torch."""
    tables = Tables.load(MODEL / "tables.safetensors")
    books = safetensors.numpy.load_file(MODEL / "codebooks.safetensors")["books"]
    _, tokens, entries = tables.shape
    named = model_id(np.broadcast_to(books, (len(books), tokens, entries, books.shape[-1])), tables)
    return FrameCodec(tables, named, learned=learned())


@cache
def learned() -> Learned:
    """The learned coder of the released model."""
    return Learned(Weights.load(MODEL / LEARNED), Tables.load(MODEL / "tables.safetensors"))


@cache
def _folder() -> Path:
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="fuzz-", dir=memory if memory.is_dir() else None))


def file(data: bytes) -> bool:
    """A file of version 2 as it is, and the same under checksums that are right."""
    accepted = reads(data)
    return reads(sealed(data)) or accepted


def reads(data: bytes) -> bool:
    """Frames that are written again are the same frames, and faces that are coded again the same payloads."""
    try:
        read = list(read_frames(data))
    except EdgeError:
        return False
    again = PREAMBLE + b"".join(write_sections([frame], section.key) for section, frame in read)
    assert [frame for _, frame in read_frames(again)] == [frame.verify() for _, frame in read]
    faces = []
    for _, frame in read:
        _template(frame)
        try:
            face = codec().face(frame)
        except FrameError:
            continue
        again_by = FrameCodec(codec().entropy, codec().model_id, frame.source.coder_id, learned())
        assert (face.layers, again_by.payload(face)) == (frame.layers, frame.payload)
        faces.append(face)
    try:
        assert list(codec().read(data)) == faces
    except FrameError:
        assert len(faces) < len(read)
    return True


def _template(frame: WireFrame) -> None:
    """A template that is read makes the same frame again, and no frame is both a template and a face."""
    try:
        template = read_protected(frame)
    except FrameError:
        return
    source = frame.source
    captured = protected_face(
        template, source.model_id, frame.captured_ms, source.clock, track=frame.track, quality=frame.quality
    )
    made = replace(captured, extensions=frame.extensions)
    assert made.frames(source.stream_id, source.device, frame.number) == (frame,)
    assert source.kind != Kind.TOKENS


def stream(data: bytes) -> bool:
    """A stream of version 1: its faces make the same bytes again, and it is cut into frames without the tables, too."""
    try:
        faces = codec().decode_stream(data)
    except EdgeError:
        return False
    assert codec().encode_stream(faces) == data
    header, frames = split_stream(data)
    assert (header + b"".join(frames), len(frames)) == (data, len(faces))
    return True


def payload(data: bytes) -> bool:
    """A layer count, a length and a payload under a checksum that is right, as a hostile sender would make it."""
    frame = data + zlib.crc32(data, zlib.crc32(codec().model_id)).to_bytes(4, "little")
    try:
        face, end = codec().decode_frame(frame)
    except EdgeError:
        return False
    assert codec().encode_frame(face) == frame[:end]
    return end == len(frame)


def packed(data: bytes) -> bool:
    """A layer count and a payload of the packing coder, read alone and among others."""
    return _payload(codec().coders[PACKED_OR_STATIC], data, 20)


def learned_payload(data: bytes) -> bool:
    """The same of the learned coder."""
    return _payload(codec().coders[learned().coder_id], data, 2)


def weights(data: bytes) -> bool:
    """A file of a learned coder, which a model folder or a bundle brings: what is read is written again."""
    try:
        found = Weights.from_bytes(data)
    except EdgeError:
        return False
    path = _folder() / LEARNED
    found.save(path)
    again = Weights.load(path).arrays()
    assert {name: array.tobytes() for name, array in again.items()} == {
        name: array.tobytes() for name, array in found.arrays().items()
    }
    return True


def _payload(coder: EntropyModel, data: bytes, times: int) -> bool:
    layers, sent = data[0] if data else 0, data[1:]
    if not 1 <= layers <= len(coder.layer_ends):
        return False
    several = coder.decode_many([sent, b"", sent] * times, layers)[::3]
    try:
        face = coder.decode(sent, layers)
    except EdgeError:
        assert all(isinstance(one, FrameError) for one in several)
        return False
    assert all(one == face for one in several)
    assert coder.encode(face) == sent
    return True


def manifest(data: bytes) -> bool:
    """A manifest as it is, and the same JSON under a seal that is right."""
    accepted = _loads(data)
    try:
        content = from_json(data)
        sealed = sealed_json({name: value for name, value in content.items() if name != SELF_HASH_FIELD}).encode()
    except (ValueError, AttributeError, TypeError, RecursionError):
        return accepted
    return _loads(sealed) or accepted


def _loads(data: bytes) -> bool:
    path = _folder() / MANIFEST
    path.write_bytes(data)
    try:
        found = Manifest.load(path.parent)
    except EdgeError:
        return False
    found.save(path.parent)
    assert Manifest.load(path.parent) == found
    return True


def request(data: bytes) -> bool:
    """A request to the whole application; see `fuzz.request`."""
    from fuzz.request import answered

    return answered(data, _folder())


PROPERTIES: dict[str, Callable[[bytes], bool]] = {
    "file": file,
    "stream": stream,
    "payload": payload,
    "packed": packed,
    "learned": learned_payload,
    "weights": weights,
    "manifest": manifest,
    "request": request,
}
