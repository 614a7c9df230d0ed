"""Frequencies that depend on the layers below: the same as by Python's whole numbers, and always a coder's table."""

import numpy as np
import pytest

from edge_stscq.stream import Tables
from edge_stscq.stream.arithmetic import TOTAL
from edge_stscq.stream.learned.frequencies import Predictor
from edge_stscq.stream.learned.weights import Weights
from tests.stream.learned import learned_by_the_book
from tests.support.models.learned_weights import draw_weights


def small(entries: int, seed: int = 0) -> Tables:
    """Two groups, seven positions in three layers, most entries rare."""
    counts = np.random.default_rng(seed).exponential(1, (2, 7, entries)) ** 4 * 1000
    return Tables.from_counts(counts.astype(int), [1, 1], (2, 4, 7))


def every_row(weights: Weights, tables: Tables, tokens: np.ndarray) -> list[np.ndarray]:
    """Cumulative frequencies `[N, T, K + 1]` of faces of each group."""
    predictor, entries = Predictor(weights, tables.frequencies), tables.shape[2]
    layers = range(len(tables.layer_ends))
    return [
        np.concatenate([predictor.starts(layer, group, tokens) for layer in layers])[..., : entries + 1].swapaxes(0, 1)
        for group in range(tables.shape[0])
    ]


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize(("entries", "dim"), [(2, 1), (5, 2), (32, 3), (9, 16)])
def test_frequencies_are_those_of_the_format(entries: int, dim: int, extreme: bool) -> None:
    tables = small(entries)
    weights = draw_weights(tables, dim, extreme=extreme)
    plain = {name: array.tolist() for name, array in weights.arrays().items()}
    tokens = np.random.default_rng(1).integers(entries, size=(3, 7))
    for group, starts in enumerate(every_row(weights, tables, tokens)):
        for face, row in enumerate(starts):
            for position in range(7):
                static = tables.frequencies[group, position].tolist()
                expected = learned_by_the_book.frequencies(plain, static, group, tokens[face].tolist(), position)
                assert np.diff(row[position].astype(int)).tolist() == expected


@pytest.mark.parametrize("extreme", [False, True])
def test_every_row_is_positive_and_sums_to_the_total(extreme: bool) -> None:
    for seed, entries in enumerate((2, 3, 17, 256, 1000)):
        tables = small(entries, seed)
        tokens = np.random.default_rng(seed).integers(entries, size=(50, 7))
        for starts in every_row(draw_weights(tables, 4, seed, extreme=extreme), tables, tokens):
            assert (starts[..., 0] == 0).all()
            assert (starts[..., -1] == TOTAL).all()
            assert np.diff(starts.astype(int)).min() >= 1


def test_a_row_does_not_depend_on_the_faces_beside_it() -> None:
    tables = small(32)
    weights, tokens = draw_weights(tables, 3), np.random.default_rng(1).integers(32, size=(300, 7))
    whole = every_row(weights, tables, tokens)
    for place in (0, 17, 299):
        for group, starts in enumerate(every_row(weights, tables, tokens[place : place + 1])):
            np.testing.assert_array_equal(starts[0], whole[group][place])


def test_sums_of_the_largest_numbers_are_exact() -> None:
    """As many tokens below as there may be, in the order that a processor likes: each sum is that of whole numbers."""
    tables = Tables.from_counts(np.ones((1, 66, 4), int), [1], (65, 66))
    weights = draw_weights(tables, 16, extreme=True)
    assert weights.matrices[0][0, 0].size == 1040
    tokens = np.random.default_rng(1).integers(4, size=(40, 66))
    below = weights.words[0, np.arange(65), tokens[:, :65]].reshape(40, -1).astype(np.int64)
    expected = below @ weights.matrices[0].reshape(32, -1).T.astype(np.int64)
    found = below.astype(np.float32) @ weights.matrices[0].reshape(32, -1).T.astype(np.float32)
    np.testing.assert_array_equal(found.astype(np.int64), expected)
    same = weights.matrices[0].reshape(32, -1)[:1].astype(np.float32)
    assert (same @ same.T).item() == 1040 * 127**2


def test_without_tilts_the_frequencies_are_nearly_the_static_ones() -> None:
    tables = small(256)
    drawn = draw_weights(tables)
    idle = Weights(
        drawn.words, drawn.bias * np.int32(0), drawn.shifts, tuple(part * np.int8(0) for part in drawn.matrices)
    )
    for group, starts in enumerate(every_row(idle, tables, np.zeros((1, 7), int))):
        found = np.diff(starts[0].astype(int))
        np.testing.assert_allclose(found, tables.frequencies[group], atol=3 + tables.frequencies.max() / 100)
