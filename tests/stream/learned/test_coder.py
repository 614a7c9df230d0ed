"""The learned coder: one face is one string of bytes, whatever is read with it, and cut after any layer it is whole."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from edge_stscq.errors import EdgeError, FrameError
from edge_stscq.stream import CodedFace, FrameCodec, Tables
from edge_stscq.stream.envelope import Source, WireFrame, stream_id
from edge_stscq.stream.frame import UnreadableFrameError, coder_id_of
from edge_stscq.stream.learned import Learned
from edge_stscq.stream.packed import Packed
from edge_stscq.stream.wire import read_frames, write_stream
from tests.stream.conftest import ENDS, MODEL, draw_faces
from tests.support.models.learned_weights import draw_weights


@pytest.fixture(scope="module")
def learned(tables: Tables) -> Learned:
    return Learned(draw_weights(tables), tables)


@pytest.fixture(scope="module")
def faces(tables: Tables) -> list[CodedFace]:
    """Faces as the static tables expect them, and faces drawn evenly."""
    draw = np.random.default_rng(3)
    even = [
        CodedFace(int(draw.integers(3)), draw.integers(32, size=ENDS[place % 3], dtype=np.uint16), 1 + place % 3)
        for place in range(60)
    ]
    return draw_faces(tables, 60) + even


@pytest.fixture
def frames(learned: Learned, tables: Tables) -> FrameCodec:
    return FrameCodec(tables, MODEL, coder_id_of("learned", learned), learned)


def test_a_face_is_read_back_alone_and_among_others(learned: Learned, faces: list[CodedFace]) -> None:
    for layers in (1, 2, 3):
        some = [face for face in faces if face.layers == layers]
        payloads = [learned.encode(face) for face in some]
        assert learned.encode_many(some) == payloads
        assert [learned.decode(payload, layers) for payload in payloads] == some
        assert learned.decode_many(payloads * 8, layers) == some * 8
        assert all(len(payload) <= learned.payload_limits[layers - 1] for payload in payloads)
    assert learned.encode_many([]) == learned.decode_many([], 1) == []


def test_further_layers_do_not_change_what_is_below(learned: Learned, faces: list[CodedFace]) -> None:
    """The first layers of a face are the face that was cut after them, and a change above does not reach them."""
    for face in (face for face in faces if face.layers == 3):
        for layers in (1, 2):
            cut = face.truncate(layers, ENDS)
            assert learned.decode(learned.encode(cut), layers) == cut
            other = face.tokens.copy()
            other[ENDS[layers - 1] :] ^= 1
            assert learned.encode(CodedFace(face.group, other, 3).truncate(layers, ENDS)) == learned.encode(cut)


def test_the_layers_below_tell_something_of_those_above(learned: Learned, tables: Tables) -> None:
    """Faces drawn by the learned frequencies themselves are shorter by them than by the static ones."""
    draw, faces = np.random.default_rng(5), list[CodedFace]()
    for number in range(40):
        tokens = list[int]()
        for layer in range(3):
            rows = learned._rows(layer, number % 3, np.array([tokens], np.uint16))[:, 0]
            tokens += [int(np.searchsorted(row, draw.integers(2**16), "right")) - 1 for row in rows]
        faces.append(CodedFace(number % 3, np.array(tokens), 3))
    assert sum(map(len, learned.encode_many(faces))) < 0.9 * sum(map(len, tables.encode_many(faces)))


@pytest.mark.parametrize("coder", ["learned", "bounded"])
def test_damage_is_refused_or_is_another_face(learned: Learned, faces: list[CodedFace], coder: str) -> None:
    entropy = learned if coder == "learned" else Packed(learned)
    draw, refused, read = np.random.default_rng(7), 0, 0
    for face in faces[::3]:
        payload = entropy.encode(face)
        damaged = [payload[:-1], payload + b"\0", payload + b"\x80", b"", bytes(len(payload))]
        for _ in range(20):
            flipped = bytearray(payload)
            flipped[draw.integers(len(payload))] ^= 1 << int(draw.integers(8))
            damaged.append(bytes(flipped))
        damaged = [one for one in damaged if len(one) <= entropy.payload_limits[face.layers - 1]]
        for one, found in zip(damaged, entropy.decode_many(damaged, face.layers), strict=True):
            if isinstance(found, FrameError):
                with pytest.raises(FrameError, match=str(found)):
                    entropy.decode(one, face.layers)
                refused += 1
                continue
            assert face != found == entropy.decode(one, face.layers)
            assert entropy.encode(found) == one
            read += 1
    assert refused > 100
    assert read > 100


def test_every_string_of_bytes_is_the_payload_of_its_face_or_is_refused() -> None:
    tables = Tables.from_counts([[[90, 5, 0], [1, 60, 0]], [[1, 1, 1], [0, 0, 900]]], [3, 1], (1, 2))
    bounded, read = Packed(Learned(draw_weights(tables, seed=2), tables)), set[CodedFace]()
    for size in range(3):
        for one in product(range(256), repeat=size):
            try:
                face = bounded.decode(bytes(one), 2)
            except FrameError:
                continue
            assert bounded.encode(face) == bytes(one)
            assert face not in read
            read.add(face)
    assert len(read) == 2 * 3**2


def test_frames_name_the_coder_and_its_weights(
    frames: FrameCodec, learned: Learned, tables: Tables, faces: list[CodedFace]
) -> None:
    data = frames.write(faces)
    assert {frame.source.coder_id for _, frame in read_frames(data)} == {learned.coder_id}
    assert list(frames.read(data)) == list(FrameCodec(tables, MODEL, learned=learned).read(data)) == faces
    assert frames.faces([frame for _, frame in read_frames(data)]) == faces
    for other in (None, Learned(draw_weights(tables, seed=9), tables)):
        with pytest.raises(FrameError, match=f"its coder {learned.coder_id.hex()} is unknown here"):
            list(FrameCodec(tables, MODEL, learned=other).read(data))


def test_no_payload_is_longer_than_the_plain_number(
    frames: FrameCodec, learned: Learned, faces: list[CodedFace]
) -> None:
    packed, shorter = frames.coder.payload_limits, 0
    for face in faces:
        payload, coded = frames.payload(face), learned.encode(face)
        assert len(payload) == min(len(coded), packed[face.layers - 1])
        shorter += len(payload) < len(coded)
    assert shorter
    key = bytes(16)
    frame = WireFrame(Source(stream_id(key), "door", MODEL, frames.coder_id), 0, 1, bytes(packed[0] + 1))
    with pytest.raises(FrameError, match="no face of this model has 1 layers in"):
        list(frames.read(write_stream([frame], key)))


def test_the_coder_id_depends_on_every_weight(learned: Learned, tables: Tables) -> None:
    weights, ids = learned.weights, {learned.coder_id}
    for name in ("words", "bias", "shifts"):
        changed = getattr(weights, name).copy()
        changed.reshape(-1)[-1] ^= 1
        ids.add(Learned(replace(weights, **{name: changed}), tables).coder_id)
    for place in (0, 1):
        parts = [part.copy() for part in weights.matrices]
        parts[place].reshape(-1)[-1] ^= 1
        ids.add(Learned(replace(weights, matrices=tuple(parts)), tables).coder_id)
    assert len(ids) == 6
    assert Learned(weights, tables).coder_id == learned.coder_id


def test_a_codec_without_weights_neither_writes_nor_reads(tables: Tables, frames: FrameCodec) -> None:
    with pytest.raises(EdgeError, match="is unknown here"):
        FrameCodec(tables, MODEL, frames.coder_id)
    (_, frame), = read_frames(frames.write([CodedFace(0, np.zeros(4, int), 1)]))
    with pytest.raises(UnreadableFrameError):
        FrameCodec(tables, MODEL).face(frame)
