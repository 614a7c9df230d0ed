"""Frames that the gate is judged on, and what counts as a target missed."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.device.conditions import CONDITIONS
from benchmarks.device.gate import shortfalls, spread
from benchmarks.device.scenes import Scene
from edge_stscq.errors import EdgeError


@pytest.fixture(scope="module")
def crop() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (144, 144, 3), np.uint8)


@pytest.mark.parametrize("scene", CONDITIONS, ids=lambda scene: scene.name)
def test_frame_of_each_condition_is_a_picture_and_the_same_again(scene: Scene, crop: NDArray[np.uint8]) -> None:
    frame = scene.frame(crop, "Ann_Lee")
    assert frame.dtype == np.uint8
    assert frame.ndim == 3
    assert min(frame.shape[:2]) >= 192
    np.testing.assert_array_equal(frame, scene.frame(crop, "Ann_Lee"))


def test_conditions_have_names_of_their_own() -> None:
    assert len({scene.name for scene in CONDITIONS}) == len(CONDITIONS)


def test_halves_share_nobody() -> None:
    people = dict.fromkeys(f"Person_{number:03d}" for number in range(100))
    assert not set(spread(people, 0, 40)) & set(spread(people, 1, 50))
    assert spread(people, 1, 50) == sorted(people)[1::2]
    with pytest.raises(EdgeError, match="there are 50 people in this half, not 51"):
        spread(people, 0, 51)


def condition(name: str, *, captured: int, matched: int, pairs: int = 1000, mild: bool = False) -> dict[str, Any]:
    strangers = {"pairs": pairs, "matched": matched}
    return {"name": name, "mild": mild, "frames": 100, "captured": captured, "strangers": strangers}


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (condition("upright", captured=97, matched=20), []),
        (condition("upright", captured=96, matched=14), ["upright: 4.0% refused, more than 3%"]),
        (condition("Gauss 1", captured=89, matched=14, mild=True), ["Gauss 1: 89.0% captured, fewer than 90%"]),
        (condition("Gauss 4", captured=40, matched=21), ["Gauss 4: 2.1% of strangers match, more than 2%"]),
        (condition("Gauss 6", captured=2, matched=1, pairs=1), []),
    ],
)
def test_missed_targets_are_named(found: dict[str, Any], words: list[str]) -> None:
    assert shortfalls([found]) == words
