"""Captured faces, and spools with faces in them."""

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from edge_stscq.client.spool import Spool
from edge_stscq.stream import CodedFace, FrameCodec
from edge_stscq.stream.envelope import CapturedFace, Clock

NOON = 1_790_000_000_000
"""Milliseconds since 1970 UTC."""


def coded(codec: FrameCodec, seed: int) -> tuple[CodedFace, CodedFace]:
    """One face with its basic layer and with all three."""
    face = CodedFace(seed % 2, np.random.default_rng(seed).integers(16, size=300).astype(np.uint16), 3)
    return face.truncate(1, codec.entropy.layer_ends), face


def captured(codec: FrameCodec, seed: int, captured_ms: int | None = None, **envelope: object) -> CapturedFace:
    """One face as a camera hands it over: a frame with the basic layer and one with all three."""
    settings = {"clock": Clock.SYNCHRONIZED, "captured_ms": NOON + 1500 * seed if captured_ms is None else captured_ms}
    payloads = tuple((face.layers, codec.payload(face)) for face in coded(codec, seed))
    return CapturedFace(codec.model_id, payloads, **settings | envelope)  # type: ignore[arg-type]


def fill(spool: Spool, faces: Iterable[CapturedFace]) -> list[int]:
    """Put them; their numbers."""
    return [spool.put(face) for face in faces]


def write_old_spool(path: Path, version: int, codec: FrameCodec, seeds: Sequence[int], sent: int = 0) -> None:
    """A spool that an earlier program made, with frames of wire version 1; the first `sent` lack their basic layers."""
    rows = []
    for number, seed in enumerate(seeds):
        basic, whole = map(codec.encode_frame, coded(codec, seed))
        rows.append((number, codec.model_id, 5.0 + number, None if number < sent else basic, whole))
    with closing(sqlite3.connect(path)) as old:
        old.executescript((Path(__file__).parent / f"spool_version_{version}.sql").read_text())
        with old:
            if version == 1:
                columns = "sequence, model, captured, first, rest"
                old.executemany(f"INSERT INTO faces ({columns}) VALUES (?, ?, ?, ?, ?)", rows)
                old.execute("UPDATE faces SET lease = 1, until = 1e9 WHERE sequence < 4")
            else:
                old.executemany("INSERT INTO faces VALUES (?, ?, ?)", [row[:3] for row in rows])
                old.executemany("INSERT INTO basics VALUES (?, ?)", [(row[0], row[3]) for row in rows[sent:]])
                old.executemany("INSERT INTO further VALUES (?, ?)", [(row[0], row[4]) for row in rows])
                old.execute("INSERT INTO leases VALUES (1, 0, 4, 1e9)")
            old.execute("UPDATE state SET next = ?, taken = ? + 10, delivered = 10", (len(rows), len(rows)))
