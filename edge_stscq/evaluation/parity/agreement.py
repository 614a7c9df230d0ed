"""Agreement of two sets of codes of the same faces, and what a disagreement costs.

A token agrees when group *and* index agree: in another group the same index is another codeword. An encoder that
picks another group loses all tokens of that face at once, so agreement is also given for the faces whose groups
agree. Disagreements are mostly near-ties between two codewords; the margin of the full-precision search (squared
distance of the runner-up minus that of the winner) says how near, which is why agreement is listed by quartile of it.
Codebooks differ in scale, so squared distances are taken relative to the mean squared distance of two random entries of
the same codebook, twice the trace of its covariance.

Where groups share their entries, two of them often fit a face nearly alike, and the share of equal groups says little.
The excess distortion says what another choice of groups and tokens costs: how much farther its codewords are from the
full-precision token vectors than those of the right codes.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from edge_stscq.stream import Codes

DISTANCE_STEP = 0.1
"""Width of a bar of the histogram of flip distances."""
DISTANCE_BARS = 20
"""Bars of that histogram; the last one also holds everything beyond it."""

_FROZEN = ConfigDict(frozen=True, extra="forbid")


class MarginBucket(BaseModel):
    """Tokens with a full-precision margin, relative to the codebook, of at most `upper`, above the bucket before."""

    model_config = _FROZEN

    upper: float
    tokens: float | None = Field(description="share that agrees, of faces whose groups agree; null without any")


class FlipDistances(BaseModel):
    """Distances of the two codewords of each flip, over the RMS distance of two random entries of its codebook."""

    model_config = _FROZEN

    mean: float
    median: float
    p95: float = Field(description="95 % of the flips are nearer")
    largest: float
    histogram: tuple[int, ...] = Field(
        description=f"flips in steps of {DISTANCE_STEP:g}; the last of the {DISTANCE_BARS} also holds all beyond it"
    )


class Agreement(BaseModel):
    """Two codes of each face compared. Shares are in 0..1; null where there is nothing to take a share of."""

    model_config = _FROZEN

    faces: int = Field(gt=0)
    groups: float = Field(description="share of faces with the same group")
    tokens: float = Field(description="share of tokens with the same group and index")
    tokens_in_same_group: float | None = Field(description="the same, of faces whose groups agree")
    faces_equal: float = Field(description="share of faces whose whole code is the same")
    layers: tuple[float | None, ...] = Field(description="`tokens` of each layer; null for one without tokens")
    excess_distortion: tuple[float | None, ...] = Field(
        description="of each layer, by what share the codewords' mean squared distance from the full-precision token "
        "vectors exceeds the reference's; null for one without tokens"
    )
    positions: tuple[float, ...] = Field(description="`tokens` of each position")
    margins: tuple[MarginBucket, ...] = Field(description="four buckets, the nearest ties first")
    flips: int = Field(description="tokens that differ, of faces whose groups agree")
    clear_tokens: float | None = Field(
        description="share of equal tokens among those whose margin is above the median margin of the flips, of faces "
        "whose groups agree; null without flips"
    )
    flip_distances: FlipDistances | None = Field(description="null without flips")


def compare(
    reference: Codes,
    other: Codes,
    layer_ends: tuple[int, ...],
    books: NDArray[np.float32],
    margin: NDArray[np.float32],
    vectors: NDArray[np.float32],
) -> Agreement:
    """Compare codes of N faces.

    Args:
        reference: the codes taken as right.
        other: the codes under judgement, of the same faces.
        layer_ends: tokens in the prefix that ends with each layer.
        books: codebooks [M, T, K, D].
        margin: full-precision margins [N, T] in squared distance.
        vectors: full-precision token vectors [N, T, D].
    """
    if reference.tokens.shape != other.tokens.shape or reference.tokens.shape != margin.shape:
        raise ValueError(f"codes differ in shape: {reference.tokens.shape}, {other.tokens.shape}, {margin.shape}")
    same_group = reference.group == other.group
    equal = reference.equal_tokens(other)
    inside = equal[same_group]
    spread = 2 * books.var(axis=2, dtype=np.float64).sum(axis=-1)[reference.group]  # [N, T]
    relative = margin / np.maximum(spread, 1e-12)
    flipped = ~equal & same_group[:, None]
    return Agreement(
        faces=len(same_group),
        groups=float(same_group.mean()),
        tokens=float(equal.mean()),
        tokens_in_same_group=_share(inside),
        faces_equal=float(equal.all(axis=1).mean()),
        layers=tuple(_share(equal[:, a:b]) for a, b in pairwise((0, *layer_ends))),
        excess_distortion=_excess_distortion(reference, other, books, vectors, layer_ends),
        positions=tuple(equal.mean(axis=0).tolist()),
        margins=_by_margin(inside, relative[same_group], np.quantile(relative, [0.25, 0.5, 0.75, 1.0])),
        flips=int(flipped.sum()),
        clear_tokens=_share(inside[relative[same_group] > np.median(relative[flipped])]) if flipped.any() else None,
        flip_distances=_flip_distances(reference, other, books, flipped, spread),
    )


def _share(values: NDArray[np.bool_]) -> float | None:
    return float(values.mean()) if values.size else None


def _excess_distortion(
    reference: Codes, other: Codes, books: NDArray[np.float32], vectors: NDArray[np.float32],
    layer_ends: tuple[int, ...],
) -> tuple[float | None, ...]:  # fmt: skip
    right, found = (_distortion(codes, books, vectors) for codes in (reference, other))
    return tuple(
        float(found[a:b].sum() / max(right[a:b].sum(), 1e-12) - 1) if b > a else None
        for a, b in pairwise((0, *layer_ends))
    )


def _distortion(codes: Codes, books: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Sum over all faces of the squared distance of token vectors and codewords, float64 [T]."""
    codewords = books[codes.group[:, None], np.arange(codes.tokens.shape[1]), codes.tokens]
    return np.square(vectors - codewords, dtype=np.float64).sum(axis=(0, 2))


def _by_margin(
    equal: NDArray[np.bool_], margin: NDArray[np.floating], uppers: NDArray[np.floating]
) -> tuple[MarginBucket, ...]:
    bucket = np.searchsorted(uppers[:-1], margin, side="left")
    return tuple(MarginBucket(upper=float(u), tokens=_share(equal[bucket == i])) for i, u in enumerate(uppers))


def _flip_distances(
    reference: Codes, other: Codes, books: NDArray[np.float32], flipped: NDArray[np.bool_], spread: NDArray[np.floating]
) -> FlipDistances | None:
    face, position = np.nonzero(flipped)
    if not len(face):
        return None
    group = reference.group[face]
    difference = (
        books[group, position, reference.tokens[face, position]] - books[group, position, other.tokens[face, position]]
    )
    distance = np.linalg.norm(difference, axis=1) / np.sqrt(np.maximum(spread[face, position], 1e-12))
    bar = np.minimum(distance / DISTANCE_STEP, DISTANCE_BARS - 1).astype(np.int64)
    return FlipDistances(
        mean=float(distance.mean()),
        median=float(np.median(distance)),
        p95=float(np.quantile(distance, 0.95)),
        largest=float(distance.max()),
        histogram=tuple(np.bincount(bar, minlength=DISTANCE_BARS).tolist()),
    )
