"""Codes of many faces: shapes, rows, cuts and comparison."""

from typing import Any

import numpy as np
import pytest

from edge_stscq.errors import EdgeError
from edge_stscq.stream import CodedFace, Codes

ENDS = (2, 3)


@pytest.fixture
def codes() -> Codes:
    return Codes(np.array([0, 1, 1], np.int32), np.arange(9, dtype=np.int32).reshape(3, 3), 2)


def test_codes_iterate_to_faces_and_are_made_of_them(codes: Codes) -> None:
    faces = list(codes)
    assert faces[1] == codes[1] == CodedFace(1, np.array([3, 4, 5]), 2)
    again = Codes.of(faces)
    assert len(again) == 3
    assert again.layers == 2
    assert again.equal_tokens(codes).all()


@pytest.mark.parametrize("rows", [slice(1, 3), [1, 2], np.array([1, 2]), np.array([False, True, True])])
def test_codes_rows(codes: Codes, rows: Any) -> None:
    part = codes[rows]
    assert (part.group.tolist(), part.tokens[:, 0].tolist(), part.layers) == ([1, 1], [3, 6], 2)


def test_codes_concatenate_keeps_the_order(codes: Codes) -> None:
    assert Codes.concatenate([codes[:1], codes[1:]]).equal_tokens(codes).all()
    with pytest.raises(EdgeError, match="same layers"):
        Codes.concatenate([codes, codes.truncate(1, ENDS)])


def test_codes_truncate(codes: Codes) -> None:
    first = codes.truncate(1, ENDS)
    assert first.tokens.tolist() == [[0, 1], [3, 4], [6, 7]]
    for layers in (0, 3):
        with pytest.raises(EdgeError, match="choose 1 to 2"):
            codes.truncate(layers, ENDS)


def test_codes_equal_tokens_need_the_same_group(codes: Codes) -> None:
    changed = codes.tokens.copy()
    changed[0, 2] += 1
    other = Codes([0, 1, 0], changed, 2)
    assert codes.equal_tokens(other).tolist() == [[True, True, False], [True] * 3, [False] * 3]
    with pytest.raises(EdgeError, match="differ in shape"):
        codes.equal_tokens(codes[:2])


@pytest.mark.parametrize(
    ("group", "tokens", "layers"),
    [([0], [[1.5]], 1), ([[0]], [[1]], 1), ([0], [1], 1), ([0, 1], [[1]], 1), ([0], [[1]], 0), ([0], [[1]], 16)],
)
def test_codes_refuse_other_arrays(group: Any, tokens: Any, layers: int) -> None:
    with pytest.raises(EdgeError):
        Codes(group, tokens, layers)


def test_codes_of_unlike_faces_are_refused(codes: Codes) -> None:
    with pytest.raises(EdgeError, match="there is none"):
        Codes.of([])
    with pytest.raises(EdgeError, match="1 to 2 layers; truncate"):
        Codes.of([codes[0], codes[1].truncate(1, ENDS)])
