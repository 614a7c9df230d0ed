"""Golden pictures: what a bundle's artefact is held against wherever it is loaded.

They are drawn by a program from a seed (noise, gradients, blobs, an oval with eyes and a mouth), so that no person
travels with a bundle. A token at a near tie may flip on another processor through a difference in the last bit, which
says nothing about the artefact; so many pictures are drawn and the ones whose nearest tie is widest are kept.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_stscq.codec.config import CROP

Picture = NDArray[np.uint8]
CANDIDATES = 24
KEPT = 8


def candidates(count: int = CANDIDATES, seed: int = 0) -> list[Picture]:
    """Pictures uint8 [128, 128, 3]: the first two are black and white, then the kinds take turns."""
    generator = np.random.default_rng(seed)
    flat = [np.full((CROP, CROP, 3), value, np.uint8) for value in (0, 255)]
    kinds = (_noise, _gradient, _blobs, _oval)
    drawn = [kinds[i % len(kinds)](generator) for i in range(count - len(flat))]
    return flat + drawn


def choose(pictures: list[Picture], width: Callable[[Picture], float], count: int = KEPT) -> Picture:
    """The `count` pictures with the widest nearest tie, in the order given, as uint8 [count, 128, 128, 3].

    Args:
        width: how far the closest decision about a picture was from going the other way.
    """
    widths = [width(picture) for picture in pictures]
    kept = sorted(sorted(range(len(pictures)), key=lambda i: (-widths[i], i))[:count])
    return np.stack([pictures[i] for i in kept])


def _noise(generator: np.random.Generator) -> Picture:
    side = int(generator.choice([8, 16, 32, CROP]))
    return _enlarged(generator.integers(0, 256, (side, side, 3), np.uint8))


def _gradient(generator: np.random.Generator) -> Picture:
    return _enlarged(generator.integers(0, 256, (2, 2, 3), np.uint8))


def _blobs(generator: np.random.Generator) -> Picture:
    picture = np.full((CROP, CROP, 3), generator.integers(0, 256, 3), np.uint8)
    for x, y, radius in generator.integers((0, 0, 6), (CROP, CROP, 40), (12, 3)).tolist():
        cv2.circle(picture, (x, y), radius, _colour(generator), cv2.FILLED)
    return _smooth(picture)


def _oval(generator: np.random.Generator) -> Picture:
    """An oval with two eyes and a mouth about where the crop has them."""
    picture = np.full((CROP, CROP, 3), generator.integers(0, 256, 3), np.uint8)
    skin, dark = _colour(generator), tuple(value / 3 for value in _colour(generator))
    dx, dy = generator.integers(-4, 5, 2).tolist()
    cv2.ellipse(picture, (64 + dx, 70 + dy), (44, 58), 0, 0, 360, skin, cv2.FILLED)
    for x in (46, 82):
        cv2.ellipse(picture, (x + dx, 60 + dy), (8, 5), 0, 0, 360, dark, cv2.FILLED)
    cv2.ellipse(picture, (64 + dx, 96 + dy), (16, 6), 0, 0, 180, dark, cv2.FILLED)
    return _smooth(picture)


def _colour(generator: np.random.Generator) -> tuple[float, ...]:
    return tuple(generator.integers(0, 256, 3).astype(float).tolist())


def _smooth(picture: Picture) -> Picture:
    return np.asarray(cv2.blur(picture, (5, 5)), np.uint8)


def _enlarged(small: Picture) -> Picture:
    return np.asarray(cv2.resize(small, (CROP, CROP), interpolation=cv2.INTER_LINEAR), np.uint8)
