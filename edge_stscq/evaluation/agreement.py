"""How far two sets of codes of the same faces agree, and what a disagreement costs.

A token agrees when group *and* index agree: in another group the same index is another codeword. An encoder that
picks another group loses all tokens of that face at once, so agreement is also given for the faces whose groups
agree. Disagreements are mostly near-ties between two codewords; the margin of the full-precision search (squared
distance of the runner-up minus that of the winner) says how near, which is why agreement is listed by quartile of it.
Codebooks differ in scale, so squared distances are taken relative to the mean squared distance of two random entries of
the same codebook, twice the trace of its covariance.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from edge_stscq.evaluation.subject import Codes


class MarginBucket(BaseModel):
    """Tokens with a full-precision margin, relative to the codebook, of at most `upper`, above the bucket before."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    upper: float
    tokens: float | None = Field(description="share that agrees, of faces whose groups agree; null without any")


class Agreement(BaseModel):
    """Two codes of each face compared. Shares are in 0..1; null where there is nothing to take a share of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    faces: int = Field(gt=0)
    groups: float = Field(description="share of faces with the same group")
    tokens: float = Field(description="share of tokens with the same group and index")
    tokens_in_same_group: float | None = Field(description="the same, of faces whose groups agree")
    faces_equal: float = Field(description="share of faces whose whole code is the same")
    layers: tuple[float | None, ...] = Field(description="`tokens` of each layer; null for one without tokens")
    margins: tuple[MarginBucket, ...] = Field(description="four buckets, the nearest ties first")
    flips: int = Field(description="tokens that differ, of faces whose groups agree")
    flip_distance: float | None = Field(
        description="mean distance of a flip's two codewords, over the RMS distance of two random entries of its book"
    )


def compare(
    reference: Codes,
    other: Codes,
    layer_ends: tuple[int, ...],
    books: NDArray[np.float32],
    margin: NDArray[np.float32],
) -> Agreement:
    """Compare codes of N faces.

    Args:
        reference: the codes taken as right.
        other: the codes under judgement, of the same faces.
        layer_ends: tokens in the prefix that ends with each layer.
        books: codebooks [M, T, K, D].
        margin: full-precision margins [N, T] in squared distance.
    """
    if reference.tokens.shape != other.tokens.shape or reference.tokens.shape != margin.shape:
        raise ValueError(f"codes differ in shape: {reference.tokens.shape}, {other.tokens.shape}, {margin.shape}")
    same_group = reference.group == other.group
    equal = (reference.tokens == other.tokens) & same_group[:, None]
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
        margins=_by_margin(inside, relative[same_group], np.quantile(relative, [0.25, 0.5, 0.75, 1.0])),
        flips=int(flipped.sum()),
        flip_distance=_flip_distance(reference, other, books, flipped, spread),
    )


def _share(values: NDArray[np.bool_]) -> float | None:
    return float(values.mean()) if values.size else None


def _by_margin(
    equal: NDArray[np.bool_], margin: NDArray[np.floating], uppers: NDArray[np.floating]
) -> tuple[MarginBucket, ...]:
    bucket = np.searchsorted(uppers[:-1], margin, side="left")
    return tuple(MarginBucket(upper=float(u), tokens=_share(equal[bucket == i])) for i, u in enumerate(uppers))


def _flip_distance(
    reference: Codes, other: Codes, books: NDArray[np.float32], flipped: NDArray[np.bool_], spread: NDArray[np.floating]
) -> float | None:
    face, position = np.nonzero(flipped)
    if not len(face):
        return None
    group = reference.group[face]
    difference = (
        books[group, position, reference.tokens[face, position]] - books[group, position, other.tokens[face, position]]
    )
    return float(np.mean(np.linalg.norm(difference, axis=1) / np.sqrt(np.maximum(spread[face, position], 1e-12))))
