"""A reader written from docs/spec/wire.md and its vectors alone agrees with ours."""

import hashlib
import json
import random
from contextlib import suppress
from itertools import product
from typing import Any

import numpy as np
import pytest

from edge_stscq.errors import EdgeError
from edge_stscq.stream import FrameCodec
from edge_stscq.stream.wire import read_frames
from tests.stream import independent_reader
from tests.stream.learned import learned_by_the_book
from tests.support import wire_vectors

VECTORS = json.loads(wire_vectors.PATH.read_text())


def theirs(data: bytes) -> list[dict[str, object]] | None:
    try:
        return independent_reader.read(data)
    except ValueError:
        return None


def ours(data: bytes) -> list[dict[str, object]] | None:
    try:
        return [wire_vectors.described(frame) for _, frame in read_frames(data)]
    except EdgeError:
        return None


def test_reader_is_short() -> None:
    with open(independent_reader.__file__) as source:
        assert len(source.readlines()) <= 150


@pytest.mark.parametrize("vector", VECTORS["streams"], ids=lambda vector: vector["name"])
def test_streams(vector: dict[str, object]) -> None:
    assert theirs(bytes.fromhex(str(vector["file"]))) == vector["frames"]


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda vector: vector["rule"])
def test_refused(vector: dict[str, str]) -> None:
    assert theirs(bytes.fromhex(vector["file"])) is None


def test_payloads() -> None:
    codec = FrameCodec(wire_vectors.tables(), wire_vectors.MODEL)
    assert codec.entropy.layer_ends == tuple(VECTORS["tables"]["layer_ends"])
    for vector in VECTORS["payloads"]:
        found = independent_reader.tokens(bytes.fromhex(vector["payload"]), vector["layers"], VECTORS["tables"])
        assert found == (vector["group"], vector["tokens"])
    for vector in VECTORS["refused_payloads"]:
        with pytest.raises(ValueError, match=r"."):
            independent_reader.tokens(bytes.fromhex(vector["payload"]), vector["layers"], VECTORS["tables"])


def unpacked(payload: bytes, layers: int, tables: dict[str, Any]) -> tuple[int, list[int]]:
    """Group and tokens of a payload by the packing coder; ValueError where it is not canonical."""
    entries, count = len(tables["frequencies"][0][0]), tables["layer_ends"][layers - 1]
    faces = len(tables["frequencies"]) * entries**count
    size = next(size for size in range(100) if faces <= 256**size)
    if len(payload) < size:
        return independent_reader.tokens(payload, layers, tables)
    number = int.from_bytes(payload, "big")
    independent_reader.need(len(payload) == size and number < faces, "no packed face")
    face = number // entries**count, [number // entries**place % entries for place in reversed(range(count))]
    shorter = (bytes(one) for length in range(size) for one in product(range(256), repeat=length))
    made = []
    for one in shorter:
        with suppress(ValueError):
            made.append(independent_reader.tokens(one, layers, tables))
    independent_reader.need(face not in made, "packed where its tables make it shorter")
    return face


def test_packed_payloads() -> None:
    for vector in VECTORS["packed"]:
        found = unpacked(bytes.fromhex(vector["payload"]), vector["layers"], VECTORS["tables"])
        assert found == (vector["group"], vector["tokens"])
    for vector in VECTORS["refused_packed"]:
        with pytest.raises(ValueError, match=r"."):
            unpacked(bytes.fromhex(vector["payload"]), vector["layers"], VECTORS["tables"])
    assert hashlib.sha256(b"edge-stscq coder 2\n").hexdigest()[:16] == VECTORS["packing_id"]


def test_learned_payloads() -> None:
    """Coded with the frequencies of the format's own words where they are shorter than the plain number."""
    learned, tables, coded = VECTORS["learned"], VECTORS["tables"], 0
    for vector in learned["payloads"]:
        group, face, payload = vector["group"], vector["tokens"], bytes.fromhex(vector["payload"])
        rows = [
            learned_by_the_book.frequencies(learned["weights"], row, group, face, position)
            for position, row in enumerate(tables["frequencies"][group][: len(face)])
        ]
        own = tables | {"frequencies": [rows] * len(tables["frequencies"])}
        coded += len(payload) < ((3 * 5 ** len(face) - 1).bit_length() + 7) // 8
        assert unpacked(payload, vector["layers"], own) == (group, face)
    assert 0 < coded < len(learned["payloads"])
    digest = hashlib.sha256(b"edge-stscq coder 3\n")
    types = {"bias": "<i4", "shifts": "|u1"}
    for name, values in learned["weights"].items():
        array = np.array(values, types.get(name, "|i1"))
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode() + array.tobytes())
    assert digest.hexdigest()[:16] == learned["coder_id"]


def test_readers_agree_on_random_damage() -> None:
    draw = random.Random(1)
    files = [bytes.fromhex(vector["file"]) for vector in VECTORS["streams"]]
    for _ in range(3000):
        data = bytearray(draw.choice(files))
        for _ in range(draw.randint(1, 3)):
            place = draw.randrange(len(data))
            kind = draw.randrange(3)
            if kind == 0:
                data[place] = draw.randrange(256)
            elif kind == 1:
                del data[place : place + draw.randint(1, 9)]
            else:
                data[place:place] = draw.randbytes(draw.randint(1, 4))
            if not data:
                break
        assert theirs(bytes(data)) == ours(bytes(data))
