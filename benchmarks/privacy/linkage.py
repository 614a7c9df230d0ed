"""Linkability: templates of one face told from templates of two by whoever has no key.

`d_sys` is Gomez-Barrero et al. 2018 (global unlinkability, 0: not linkable, 1: always), with equal priors;
`maximal_linkability` is Otroshi Shahreza et al. 2023: leakage in bits, at most 1, of whether two templates are of one
face. Both are estimated from histograms, so unlinkable templates score a little over zero: `floor` says how much.
"""

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.privacy.subjects import fresh_keys, stored
from edge_stscq.privacy import Scheme

BINS = 30
RENEWALS = 10
PARTS = 8
"""Equal parts of what is stored whose norms and zeros an attacker counts; groups, where a scheme has them."""
POOLS = (1, 4, 10)
Score = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.floating]]


def d_sys(mated: NDArray[np.floating], others: NDArray[np.floating]) -> float:
    """Global linkability, 0 to 1, of scores of one face's templates and of two faces'."""
    one, two = _shares(mated, others)
    local = np.divide(one - two, one + two, out=np.zeros(BINS), where=one > two)  # 2 LR / (1 + LR) - 1
    return float((one * local).sum())


def maximal_linkability(mated: NDArray[np.floating], others: NDArray[np.floating]) -> float:
    """Maximal leakage, 0 to 1 bit, from a score about which of the two it is of."""
    return float(np.log2(np.maximum(*_shares(mated, others)).sum()))


def linkage(
    scheme: Scheme[Any], embeddings: NDArray[np.float32], learned: Score | None = None
) -> dict[str, dict[str, float]]:
    """Linkability of ten renewals of each embedding `[N, 128]` by each attacker, none of whom has a key.

    Args:
        learned: scores of a network's inversions, an attacker of its own.
    """
    count = len(embeddings)
    renewals = [stored(scheme, embeddings, fresh_keys(f"renewal {number}", count)) for number in range(RENEWALS)]
    attackers: dict[str, Score] = {"score": scheme.similarity, "norms": _norms, "zeros": _zeros}
    if learned is not None:
        attackers["learned"] = learned
    found = {}
    for name, score in attackers.items():
        mated = np.concatenate([score(renewals[i], renewals[j]) for i, j in combinations(range(RENEWALS), 2)])
        shifts = range(1, 1 + RENEWALS * (RENEWALS - 1) // 2)
        apart = [
            score(renewals[i], np.roll(renewals[j], shift, 0))
            for (i, j), shift in zip(combinations(range(RENEWALS), 2), shifts, strict=True)
        ]
        others = np.concatenate(apart)
        found[name] = {
            "d_sys": d_sys(mated, others), "maximal_linkability": maximal_linkability(mated, others),
            "floor": d_sys(np.concatenate(apart[::2]), np.concatenate(apart[1::2])),
        }  # fmt: skip
    return found


def key_reuse(scheme: Scheme[Any], embeddings: NDArray[np.float32]) -> list[dict[str, float]]:
    """Share of faces whose nearest template in a second store is their own, with keys of a small pool and fresh."""
    count, found = len(embeddings), []
    random = np.random.default_rng(0)
    for size in (*POOLS, 0):
        if size:
            pool = fresh_keys("pool", size)
            sides = [[pool[i] for i in random.integers(0, size, count)] for _ in range(2)]
        else:
            sides = [fresh_keys(f"store {side}", count) for side in range(2)]
        first, second = (stored(scheme, embeddings, keys) for keys in sides)
        nearest = [int(scheme.similarity(np.broadcast_to(one, second.shape), second).argmax()) for one in first]
        found.append(
            {"keys": size, "linked": float(np.mean(np.array(nearest) == np.arange(count))), "chance": 1 / count}
        )
    return found


def _shares(mated: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.float64]:
    """Shares of both in the same bins `[2, 30]`, which hold equally many of all scores."""
    both = np.concatenate([mated, others]).astype(np.float64)
    edges = np.unique(np.quantile(both, np.linspace(0, 1, BINS + 1)[1:-1]))
    places = (np.searchsorted(edges, scores.astype(np.float64), side="right") for scores in (mated, others))
    return np.stack([np.bincount(place, minlength=BINS) / len(place) for place in places])


def _norms(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.floating]:
    """Closeness of the norms of parts."""
    norms = [np.linalg.norm(values, axis=2) for values in (_parts(first), _parts(second))]
    return -np.linalg.norm(norms[0] - norms[1], axis=1)


def _zeros(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.floating]:
    """Closeness of the numbers of zeros in parts."""
    counts = [(values == 0).sum(2) for values in (_parts(first), _parts(second))]
    return -np.linalg.norm(counts[0] - counts[1], axis=1)


def _parts(values: NDArray[np.float32]) -> NDArray[np.float32]:
    size = -(-values.shape[1] // PARTS)
    padded = np.pad(values, ((0, 0), (0, size * PARTS - values.shape[1])))
    return padded.reshape(len(values), PARTS, size)
