"""Weights of learned coders, drawn by chance: of any shape, in the usual range or at the ends of it."""

from itertools import pairwise

import numpy as np

from edge_stscq.stream import Tables
from edge_stscq.stream.learned import Weights


def draw_weights(tables: Tables, dim: int = 2, seed: int = 0, *, extreme: bool = False) -> Weights:
    """Weights for tables; `extreme` ones are as large as they may be, and nothing is shifted away."""
    draw, (groups, tokens, entries) = np.random.default_rng(seed), tables.shape

    def drawn(*shape: int) -> np.ndarray:
        values = draw.choice([-127, 127], shape) if extreme else draw.integers(-90, 91, shape)
        return values.astype(np.int8)

    limit = 2**24 - 1 if extreme else 20_000
    return Weights(
        drawn(groups, tokens, entries, dim),
        draw.integers(-limit, limit, (groups, tokens, 2 * dim), np.int32, endpoint=True),
        np.zeros((tokens, 2 * dim), np.uint8) if extreme else draw.integers(4, 9, (tokens, 2 * dim), np.uint8),
        tuple(drawn(end - start, 2 * dim, start, dim) for start, end in pairwise(tables.layer_ends)),
    )
