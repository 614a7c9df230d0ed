"""The file of a learned coder: what is kept, and what is refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from edge_stscq.errors import EdgeError
from edge_stscq.stream import Tables
from edge_stscq.stream.learned import Learned, Weights
from tests.support.models.learned_weights import draw_weights


@pytest.fixture
def weights(tables: Tables) -> Weights:
    return draw_weights(tables)


def test_what_is_saved_is_loaded(weights: Weights, tmp_path: Path) -> None:
    for name in ("one", "two"):
        weights.save(tmp_path / name)
    found = Weights.load(tmp_path / "one")
    assert found.arrays().keys() == weights.arrays().keys()
    for name, array in found.arrays().items():
        np.testing.assert_array_equal(array, weights.arrays()[name])
        assert array.dtype == weights.arrays()[name].dtype
    assert (found.shape, found.layer_ends) == ((3, 12, 32), (4, 8, 12))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_file_that_is_none_is_refused(weights: Weights, tmp_path: Path) -> None:
    path = tmp_path / "learned.safetensors"
    with pytest.raises(EdgeError, match=r"cannot read .*learned.safetensors: No such file"):
        Weights.load(path)
    weights.save(path)
    whole = path.read_bytes()
    for data in (b"", whole[:-1], whole[: len(whole) // 2]):
        path.write_bytes(data)
        with pytest.raises(EdgeError, match=r"learned.safetensors: not a file of a learned entropy model"):
            Weights.load(path)
    for change in ({"more": weights.bias}, {"words": None}, {"weights.2": None}):
        tensors = {name: array for name, array in (weights.arrays() | change).items() if array is not None}
        with pytest.raises(EdgeError, match="not a file of a learned entropy model: it has"):
            Weights.from_bytes(safetensors.numpy.save(tensors))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("words", lambda array: array.astype(np.int16), "words is int16"),
        ("words", lambda array: array[0], "words is int8 of shape"),
        ("words", lambda array: array[:, :0], "words is int8 of shape"),
        ("words", lambda array: np.full_like(array, -128), "a weight is below -127"),
        ("words", lambda array: np.zeros((*array.shape[:3], 17), np.int8), "bias is int32"),
        ("bias", lambda array: array[:, :-1], "bias is int32 of shape"),
        ("bias", lambda array: np.full_like(array, -(2**31)), r"could reach 2\^24"),
        ("bias", lambda array: np.full_like(array, 2**24), r"could reach 2\^24"),
        ("shifts", lambda array: np.full_like(array, 21), "or a shift above 20"),
        ("shifts", lambda array: array.astype(np.int8), "shifts is int8"),
        ("matrices", lambda parts: parts[:1], r"weights of layer 2 is int8 of shape"),
        ("matrices", lambda parts: parts[::-1], r"weights of layer 2 is int8 of shape"),
        ("matrices", lambda parts: (*parts, parts[0]), r"weights of layer 2 is int8 of shape"),
        ("matrices", lambda parts: (np.full_like(parts[0], -128), parts[1]), "a weight is below -127"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    weights: Weights, name: str, change: Callable[[Any], Any], message: str
) -> None:
    with pytest.raises(EdgeError, match=message):
        replace(weights, **{name: change(getattr(weights, name))})


def test_more_terms_than_are_exact_are_refused() -> None:
    draw_weights(Tables.from_counts(np.ones((1, 66, 2), int), [1], (65, 66)), 16)
    for ends, dim in (((66, 67), 16), ((1, 2), 17)):
        with pytest.raises(EdgeError, match=r"could reach 2\^24"):
            draw_weights(Tables.from_counts(np.ones((1, ends[-1], 2), int), [1], ends), dim)


def test_weights_of_another_model_are_refused(weights: Weights, tables: Tables) -> None:
    for other in (
        Tables(tables.frequencies, tables.group_frequencies, (4, 9, 12)),
        Tables(tables.frequencies[:, :11], tables.group_frequencies, (4, 8, 11)),
    ):
        with pytest.raises(EdgeError, match="the learned entropy model is for"):
            Learned(weights, other)
