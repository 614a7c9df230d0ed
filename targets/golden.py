"""Golden pictures: what a bundle's artefact is held against wherever it is loaded.

They are drawn by a program from a seed (noise, gradients, blobs, an oval with eyes and a mouth), so that no person
travels with a bundle. Of those drawn are kept: black, white and a saturated one; the ones whose nearest tie is widest
and the ones whose nearest tie is narrowest; and for each group one that the router sends there.

Another processor sums in another order behind the backbone, and a token whose vector stands almost on the border
between two cells may flip, which says nothing about the artefact. Nearer to the border than `TIE` the runner-up is
therefore as good an answer as the winner; a third one is wrong, and so is any other further away. Black, white and
saturated apart, only pictures that the router is sure of are taken; of those three the other group will do as well
where it is not.
"""

from collections.abc import Callable, Iterator
from itertools import cycle, islice
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_stscq.config.codec import CROP

Picture = NDArray[np.uint8]
FIRST = 32
"""Pictures to choose from."""
MOST = 2000
"""Pictures drawn at most in search of a group."""
HARD, WIDE, NARROW = 3, 4, 3
"""Pictures kept: black, white and saturated, those with the widest nearest tie, those with the narrowest."""
TIE = 0.0001
"""Distance to the border between two cells below which a token is a tie, relative to the RMS distance of two random
entries of the codebook. What is int8 is exact and adds nothing to it (`quantization/exact.py`)."""
_UNSURE = 0.25
"""Share of the first pictures that the router is taken to be unsure of."""


class RoutingMargins(NamedTuple):
    """Choices of an encoder for N pictures, and their margins."""

    group: NDArray[np.int32]
    """[N]"""
    other_group: NDArray[np.int32]
    """[N], the router's second choice; the group itself if there is one only."""
    group_margin: NDArray[np.float32]
    """[N], logit of the first choice less that of the second; infinite if there is one group only."""
    tokens: NDArray[np.int32]
    """[N, T]"""
    runner_up: NDArray[np.int32]
    """[N, T], the second-nearest entry."""
    boundary_distance: NDArray[np.float32]
    """[N, T], distance of the token vector to the border between its cell and the runner-up's, as `TIE` counts it."""


def routing_margins(
    logits: NDArray[np.float32], group: NDArray[np.int32], z: NDArray[np.float32], books: NDArray[np.float32]
) -> RoutingMargins:
    """Margins of router logits [N, M], groups [N] and token vectors [N, T, D] under codebooks [M, T, K, D]."""
    other, group_margin = group, np.full(len(group), np.inf, np.float32)
    if logits.shape[1] > 1:
        ranked, gaps = np.argsort(-logits, axis=1, kind="stable"), np.sort(logits, axis=1)
        other, group_margin = np.where(ranked[:, 0] == group, ranked[:, 1], ranked[:, 0]), gaps[:, -1] - gaps[:, -2]
    spread = np.sqrt(2 * books.var(axis=2).sum(axis=-1))[group]
    rows = [_nearest(vectors, books[own]) for vectors, own in zip(z, group, strict=True)]
    tokens, runner_up, boundary_distance = (np.stack(part) for part in zip(*rows, strict=True))
    return RoutingMargins(
        group, other.astype(np.int32), group_margin, tokens, runner_up, boundary_distance / np.maximum(spread, 1e-12)
    )


def _nearest(z: NDArray[np.float32], books: NDArray[np.float32]) -> tuple[NDArray[np.generic], ...]:
    """Nearest and second-nearest entry of vectors [T, D] in books [T, K, D], and the distance to the border between."""
    distance = np.square(z[:, None] - books).sum(-1)
    ranked, rows = np.argsort(distance, axis=1, kind="stable"), np.arange(len(z))
    first, second = ranked[:, 0], ranked[:, 1]
    apart = np.linalg.norm(books[rows, first] - books[rows, second], axis=1)
    boundary_distance = (distance[rows, second] - distance[rows, first]) / np.maximum(2 * apart, 1e-12)
    return first.astype(np.int32), second.astype(np.int32), boundary_distance


class GoldenInputs(NamedTuple):
    """G golden pictures."""

    images: Picture
    """uint8 [G, 128, 128, 3]"""
    unsure: NDArray[np.bool_]
    """[G], whether the router might send the picture to another group elsewhere."""


def select(
    analyze: Callable[[Picture], RoutingMargins], groups: int, most: int = MOST, unsure: float = _UNSURE
) -> GoldenInputs:
    """Draw pictures and keep the golden ones.

    Args:
        analyze: what the full-precision student sees in pictures uint8 [N, 128, 128, 3].
        groups: groups that the model has. One that none of `most` pictures is surely routed to stays without a picture.
        unsure: share of the first pictures that the router is taken to be unsure of; 0 where groups are exact.
    """
    drawn = draw(seed=0)
    pictures = np.stack(list(islice(drawn, FIRST)))
    seen = analyze(pictures)
    least = np.sort(seen.group_margin)[int(unsure * FIRST)] if unsure else -np.inf
    sure = np.flatnonzero(seen.group_margin >= least)
    ranked = sure[np.argsort(seen.boundary_distance[sure].min(axis=1), kind="stable")]
    kept = sorted({*range(HARD), *ranked[:NARROW].tolist(), *ranked[-WIDE:].tolist()})
    chosen, doubtful = [pictures[i] for i in kept], (seen.group_margin[kept] < least).tolist()
    found = {int(seen.group[i]) for i in kept if seen.group_margin[i] >= least}
    for _ in range(most // FIRST):
        for group in sorted(set(range(groups)) - found):
            members = np.flatnonzero((seen.group == group) & (seen.group_margin >= least))
            if len(members):
                chosen.append(pictures[members[seen.group_margin[members].argmax()]])
                doubtful.append(False)
                found.add(group)
        if len(found) == groups:
            break
        pictures = np.stack(list(islice(drawn, FIRST)))
        seen = analyze(pictures)
    return GoldenInputs(np.stack(chosen), np.array(doubtful))


def candidates(count: int, seed: int = 0) -> list[Picture]:
    """Pictures uint8 [128, 128, 3]: black, white, a saturated one, then the kinds take turns."""
    return list(islice(draw(seed), count))


def draw(seed: int) -> Iterator[Picture]:
    """Such pictures without end."""
    generator = np.random.default_rng(seed)
    yield from (np.full((CROP, CROP, 3), value, np.uint8) for value in (0, 255))
    for kind in cycle((_saturated, _noise, _gradient, _blobs, _oval)):
        yield kind(generator)


def _saturated(generator: np.random.Generator) -> Picture:
    """Squares of the eight colours whose channels are 0 or 255."""
    side = int(generator.choice([2, 4, 8, 16]))
    small = generator.integers(0, 2, (side, side, 3), np.uint8) * 255
    return np.asarray(cv2.resize(small, (CROP, CROP), interpolation=cv2.INTER_NEAREST), np.uint8)


def _noise(generator: np.random.Generator) -> Picture:
    side = int(generator.choice([8, 16, 32, CROP]))
    return _enlarged(generator.integers(0, 256, (side, side, 3), np.uint8))


def _gradient(generator: np.random.Generator) -> Picture:
    return _enlarged(generator.integers(0, 256, (2, 2, 3), np.uint8))


def _blobs(generator: np.random.Generator) -> Picture:
    picture = np.full((CROP, CROP, 3), generator.integers(0, 256, 3), np.uint8)
    for x, y, radius in generator.integers((0, 0, 6), (CROP, CROP, 40), (12, 3)).tolist():
        cv2.circle(picture, (x, y), radius, _color(generator), cv2.FILLED)
    return _smooth(picture)


def _oval(generator: np.random.Generator) -> Picture:
    """An oval with two eyes and a mouth about where the crop has them."""
    picture = np.full((CROP, CROP, 3), generator.integers(0, 256, 3), np.uint8)
    skin, dark = _color(generator), tuple(value / 3 for value in _color(generator))
    dx, dy = generator.integers(-4, 5, 2).tolist()
    cv2.ellipse(picture, (64 + dx, 70 + dy), (44, 58), 0, 0, 360, skin, cv2.FILLED)
    for x in (46, 82):
        cv2.ellipse(picture, (x + dx, 60 + dy), (8, 5), 0, 0, 360, dark, cv2.FILLED)
    cv2.ellipse(picture, (64 + dx, 96 + dy), (16, 6), 0, 0, 180, dark, cv2.FILLED)
    return _smooth(picture)


def _color(generator: np.random.Generator) -> tuple[float, ...]:
    return tuple(generator.integers(0, 256, 3).astype(float).tolist())


def _smooth(picture: Picture) -> Picture:
    return np.asarray(cv2.blur(picture, (5, 5)), np.uint8)


def _enlarged(small: Picture) -> Picture:
    return np.asarray(cv2.resize(small, (CROP, CROP), interpolation=cv2.INTER_LINEAR), np.uint8)
