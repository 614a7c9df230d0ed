"""Bytes that must never change: streams written by this version are read by every later one.

The golden file is written anew with GENERATE_EXPECTED=1, which is right only when VERSION is raised.
"""

import json
import os
from pathlib import Path

import numpy as np

from edge_stscq.stream import CodedFace, FrameCodec, Tables, model_id

GOLDEN = Path(__file__).parent.parent / "golden" / "stream.json"


def fixed_model() -> tuple[Tables, FrameCodec]:
    """A model made by arithmetic alone."""
    group, position, entry, dim = np.ogrid[:2, :6, :16, :4]
    books = ((group * 7 + position * 5 + entry * 3 + dim) % 11 / 8).astype(np.float32)
    counts = ((group + 1) * (position + 3) * 997 // (entry + 1))[..., 0]
    tables = Tables.from_counts(counts, [70, 30], (2, 4, 6))
    return tables, FrameCodec(tables, model_id(books, tables))


def fixed_faces() -> list[CodedFace]:
    return [
        CodedFace(0, np.array([0, 0, 0, 0, 0, 0]), 3),
        CodedFace(1, np.array([15, 15, 15, 15]), 2),
        CodedFace(1, np.array([3, 9]), 1),
        CodedFace(0, np.array([1, 4, 15, 0, 7, 2]), 3),
    ]


def test_stream_has_the_golden_bytes() -> None:
    (tables, codec), faces = fixed_model(), fixed_faces()
    stream = codec.encode_stream(faces)
    if os.environ.get("GENERATE_EXPECTED"):
        table = tables.frequencies[1, 2].tolist()
        GOLDEN.write_text(json.dumps({"stream": stream.hex(), "frequencies[1,2]": table}, indent=2) + "\n")
    expected = json.loads(GOLDEN.read_text())
    assert tables.frequencies[1, 2].tolist() == expected["frequencies[1,2]"]
    assert stream.hex() == expected["stream"]
    assert codec.decode_stream(bytes.fromhex(expected["stream"])) == faces
