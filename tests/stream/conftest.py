"""Tables and faces of a small model, the same in every run."""

import numpy as np
import pytest

from edge_stscq.stream import CodedFace, FrameCodec, Tables

MODEL = bytes.fromhex("0123456789abcdef")
ENDS = (4, 8, 12)


@pytest.fixture(scope="session")
def tables() -> Tables:
    """Three groups, twelve positions, 32 entries, of which a few are common and most are rare."""
    entries, position, group = np.arange(32), np.arange(12)[:, None], np.arange(3)[:, None, None]
    counts = 20_000 // (1 + (entries * (group + 3) + position * 7) % 32) ** 2
    return Tables.from_counts(counts, [50, 30, 20], ENDS)


@pytest.fixture(scope="session")
def codec(tables: Tables) -> FrameCodec:
    return FrameCodec(tables, MODEL)


def draw_faces(tables: Tables, count: int, seed: int = 0) -> list[CodedFace]:
    """Faces drawn from the tables' own distribution, with one, two and three layers in turn."""
    random = np.random.default_rng(seed)
    groups, _, entries = tables.shape
    faces = []
    for number in range(count):
        layers = 1 + number % 3
        group = int(random.choice(groups, p=tables.group_frequencies / 2**16))
        rows = tables.frequencies[group, : tables.layer_ends[layers - 1]]
        tokens = np.array([random.choice(entries, p=row / 2**16) for row in rows])
        faces.append(CodedFace(group, tokens, layers))
    return faces


@pytest.fixture(scope="session")
def faces(tables: Tables) -> list[CodedFace]:
    return draw_faces(tables, 60)
