"""Golden pictures: which are kept, and what counts as a tie."""

from itertools import count

import numpy as np
import pytest

from edge_stscq.bundle import open_bundle
from targets.golden import FIRST, HARD, MOST, RoutingMargins, candidates, routing_margins, select


def test_candidates_begin_with_the_hard_cases_and_repeat():
    pictures = candidates(12)
    assert [pictures[i].max() for i in (0, 1)] == [0, 255]
    assert pictures[1].min() == 255
    assert set(np.unique(pictures[2])) == {0, 255}
    assert all(picture.shape == (128, 128, 3) and picture.dtype == np.uint8 for picture in pictures)
    for first, second in zip(pictures, candidates(12), strict=True):
        np.testing.assert_array_equal(first, second)


def seen(pictures, group, group_margin):
    """A view of pictures whose tokens do not matter."""
    tokens = np.zeros((len(pictures), 4), np.int32)
    boundary_distance = (
        pictures.reshape(len(pictures), -1).mean(axis=1, keepdims=True).repeat(4, axis=1).astype(np.float32)
    )
    return RoutingMargins(
        np.array(group), 1 - np.array(group), np.array(group_margin, np.float32), tokens, tokens, boundary_distance
    )


def test_a_rare_group_is_searched_for():
    """Only the 101st picture goes to group 1."""
    number = count()

    def analyze(pictures):
        numbers = [next(number) for _ in pictures]
        return seen(pictures, [int(i == 100) for i in numbers], [1.0 + i % 7 for i in numbers])

    images, unsure = select(analyze, groups=2)
    np.testing.assert_array_equal(images[-1], candidates(101)[100])
    assert not unsure[HARD:].any()


def test_a_group_that_is_never_picked_ends_the_search():
    drawn = []

    def analyze(pictures):
        drawn.append(len(pictures))
        return seen(pictures, [0] * len(pictures), [1.0] * len(pictures))

    images, _ = select(analyze, groups=2, most=320)
    assert 320 <= sum(drawn) <= 320 + FIRST
    assert len(images) >= HARD
    assert MOST >= 2000


def test_pictures_of_unsure_routing_are_only_the_hard_ones():
    """Pictures that the router is not sure of are only the hard ones."""

    def analyze(pictures):
        group_margin = np.arange(len(pictures), dtype=np.float32)  # the hard ones come first
        return seen(pictures, [0] * len(pictures), group_margin)

    images, unsure = select(analyze, groups=1)
    assert unsure.tolist() == [True] * HARD + [False] * (len(images) - HARD)
    least = candidates(FIRST)[: FIRST // 4]
    assert not any((image == picture).all() for image in images[HARD:] for picture in least)


def test_the_border_is_measured_between_cells():
    """Entries at 0 and 10: a vector at 4 is 1 from the border; two random entries are 50**0.5 apart (RMS)."""
    books = np.array([0, 10], np.float32).reshape(1, 1, 2, 1)
    one = routing_margins(
        np.zeros((1, 1), np.float32), np.array([0]), np.array([4], np.float32).reshape(1, 1, 1), books
    )
    assert (one.tokens.item(), one.runner_up.item(), one.other_group.item()) == (0, 1, 0)
    assert one.boundary_distance.item() == pytest.approx(1 / 50**0.5)
    assert np.isinf(one.group_margin).all()


def test_the_second_choice_of_the_router_is_the_other_group():
    logits = np.array([[0.5, 2.0, 1.5], [3.0, -1.0, 0.0]], np.float32)
    books = np.random.default_rng(0).standard_normal((3, 2, 4, 2)).astype(np.float32)
    found = routing_margins(logits, logits.argmax(axis=1), np.zeros((2, 2, 2), np.float32), books)
    assert found.other_group.tolist() == [2, 2]
    assert found.group_margin.tolist() == [0.5, 3.0]


def test_a_bundle_has_every_group_and_the_hard_cases(bundles, source):
    golden = open_bundle(bundles["onnx"]).golden
    assert set(golden.groups.tolist()) == set(range(source.config.groups))
    np.testing.assert_array_equal(golden.images[:HARD], candidates(HARD))
    ties = golden.other_tokens != golden.tokens
    assert ties.mean() < 0.05
