"""Rows in blocks give what one matrix gives, whatever is filtered, moved or grown."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_stscq.bundle.matcher import Matcher
from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.server.matching.blocks import IndexBlocks
from edge_stscq.stream import CodedFace
from tests.support.models.match_rules import unit_vectors

ROWS, PREFIXES = 37, (1, 2)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_stscq.server.matching.blocks.BLOCK", 8)


@pytest.fixture
def table() -> dict[str, NDArray[np.generic]]:
    """Columns of as many rows; some vectors are there twice, so that scores are equal."""
    draw = np.random.default_rng(7)
    vectors = unit_vectors(ROWS, 7)
    vectors[20:25] = vectors[:5]
    densities = draw.random(ROWS).astype(np.float32)
    densities[20:25] = densities[:5]
    return {
        "vectors": vectors, "densities": densities,
        "layers": draw.integers(1, 4, ROWS), "devices": draw.integers(0, 3, ROWS),
    }  # fmt: skip


def fill(table: dict[str, NDArray[np.generic]]) -> IndexBlocks:
    """In two parts, of which the second writes rows of the first anew."""
    blocks = IndexBlocks(dict.fromkeys(PREFIXES, 128))
    put(blocks, table, np.arange(20), table["layers"])
    put(blocks, table, np.arange(5, ROWS), table["layers"])
    return blocks


def put(
    blocks: IndexBlocks, table: dict[str, NDArray[np.generic]], rows: NDArray[np.intp], layers: NDArray[np.generic]
) -> None:
    having = {prefix: rows[layers[rows] >= prefix] for prefix in PREFIXES}
    vectors = {prefix: (table["vectors"][some], table["densities"][some]) for prefix, some in having.items()}
    blocks.put(rows, layers[rows], table["devices"][rows], vectors)


def by_hand(
    table: dict[str, NDArray[np.generic]], held: int, prefix: int, query: NDArray[np.float32], density: float,
    limit: int, device: int | None, min_cosine: float,
) -> list[int]:  # fmt: skip
    cosines = table["vectors"] @ query
    scores = cosines - (table["densities"] + np.float32(density)) / 2
    rows = [
        row for row in range(held)
        if table["layers"][row] >= prefix and device in (None, table["devices"][row]) and cosines[row] >= min_cosine
    ]  # fmt: skip
    return sorted(rows, key=lambda row: (-scores[row], row))[:limit]


@pytest.mark.parametrize("held", [0, 1, 8, 9, ROWS])
@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize(("device", "min_cosine"), [(None, -1.0), (1, -1.0), (None, 0.05), (2, 0.0), (9, -1.0)])
def test_blocks_answer_as_one_matrix(
    table: dict[str, NDArray[np.generic]], held: int, prefix: int, device: int | None, min_cosine: float
) -> None:
    blocks = fill(table)
    for query in unit_vectors(3, 8):
        for limit in (1, 5, 100):
            found = blocks.best(held, prefix, query, 0.3, limit, device, min_cosine)
            expected = by_hand(table, held, prefix, query, 0.3, limit, device, min_cosine)
            scores = [score for _, _, score in found]
            assert scores == sorted(scores, reverse=True)
            assert len(found) == len(expected)
            if limit == 100:  # rows of one score may be cut anywhere
                assert {row for row, _, _ in found} == set(expected)
    assert blocks.count(held, 1) == int((table["devices"][:held] == 1).sum())


def test_put_of_a_row_twice_keeps_the_later(table: dict[str, NDArray[np.generic]]) -> None:
    blocks, vectors = IndexBlocks({1: 128}), table["vectors"][:2]
    blocks.put(np.array([0, 0]), np.array([1, 1]), np.array([0, 1]), {1: (vectors, table["densities"][:2])})
    assert (blocks.count(1, 0), blocks.count(1, 1)) == (0, 1)
    assert blocks.best(1, 1, vectors[1], 0.0, 1, None, -1)[0][1] == pytest.approx(1)


def test_equal_scores_come_in_the_order_of_rows(table: dict[str, NDArray[np.generic]]) -> None:
    table["layers"][:] = 3
    blocks = fill(table)
    for row in range(5):
        found = blocks.best(ROWS, 1, np.asarray(table["vectors"][row], np.float32), 0.0, 2, None, -1)
        assert [one for one, _, _ in found] == [row, row + 20]


def test_moved_row_leaves_nothing(table: dict[str, NDArray[np.generic]]) -> None:
    table["layers"][:] = 3
    blocks = fill(table)
    blocks.move(ROWS - 1, 3)
    query = np.asarray(table["vectors"][ROWS - 1], np.float32)
    assert blocks.best(ROWS - 1, 1, query, 0.0, 1, None, -1)[0][0] == 3
    assert not any(column[(ROWS - 1) % 8].any() for column in blocks._blocks[-1].columns)


MakeFaces = Callable[..., list[CodedFace]]


def test_basis_keeps_every_product_in_fewer_numbers(entry: CatalogEntry, make_faces: MakeFaces) -> None:
    matcher: Matcher = entry.matcher
    for layers in (1, 2, 3):
        unit, basis = matcher.embed(make_faces(20), layers), matcher.basis(layers)
        assert basis.shape[1] <= 8 * layers  # identity_dims of the tiny model's layers
        assert np.allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-6)
        assert np.allclose((unit @ basis) @ (unit @ basis).T, unit @ unit.T, atol=1e-5)
