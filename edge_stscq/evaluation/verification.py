"""Face verification on Labeled Faces in the Wild, view 2 (Huang et al. 2007, "image-restricted" pairs).

`pairs.txt` lists ten folds, each with pairs of one person followed by as many pairs of two. For every fold the
threshold is the one that is most accurate on the *other* folds; the accuracy is the mean over folds and its standard
error is the sample deviation of the fold accuracies over the root of their number. TAR@FAR is the share of
same-person pairs above the threshold that lets through at most the given share of the others, over all pairs at once.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from edge_stscq.errors import EdgeError

MAX_PAIRS_BYTES = 16 * 1024 * 1024
FALSE_ACCEPTS = 1e-3
"""FAR at which the true-accept rate is reported."""


@dataclass(frozen=True)
class Pairs:
    """Pairs in file order: names of both pictures, whether they show one person (bool [P]) and the fold (int [P])."""

    first: tuple[str, ...]
    second: tuple[str, ...]
    same: NDArray[np.bool_]
    fold: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.first)

    @property
    def folds(self) -> int:
        return int(self.fold[-1]) + 1

    @property
    def names(self) -> frozenset[str]:
        """Every picture that a pair needs."""
        return frozenset(self.first) | frozenset(self.second)

    def head(self, count: int) -> "Pairs":
        """The first `count` pairs. A fold begins with all its same-person pairs, so only whole folds are a fair sample.

        Raises:
            EdgeError: `count` does not end a fold, or leaves fewer than two folds to choose a threshold from.
        """
        ends = np.flatnonzero(np.diff(self.fold, append=self.folds)) + 1
        if count not in ends[1:]:
            raise EdgeError(f"the first {count} pairs are not two or more whole folds; use one of {ends[1:].tolist()}")
        return Pairs(self.first[:count], self.second[:count], self.same[:count], self.fold[:count])


class Verification(BaseModel):
    """Outcome of one verification run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    accuracy: float = Field(ge=0, le=1, description="mean over folds")
    standard_error: float = Field(ge=0, description="of the mean over folds")
    tar_at_far: float = Field(ge=0, le=1, description=f"true-accept rate at a false-accept rate of {FALSE_ACCEPTS:g}")
    threshold: float = Field(description="mean of the fold thresholds; a score above it is the same person")
    pairs: int = Field(gt=0)
    folds: int = Field(ge=2)
    by_fold: tuple[float, ...] = Field(default=(), exclude=True, repr=False, description="accuracy of each fold")


def read_pairs(path: Path) -> Pairs:
    """Read LFW's `pairs.txt`: a first line `folds<tab>pairs`, then per fold `pairs` lines `name i j` and `pairs` lines
    `name i other j`. Names become `Name_0001`.

    Raises:
        EdgeError: the file is missing or is not of this form.
    """
    try:
        with path.open("rb") as file:
            rows = [line.split() for line in file.read(MAX_PAIRS_BYTES).decode().splitlines() if line.strip()]
        folds, half = map(int, rows[0])
        first, second, same = [], [], []
        for row in rows[1:]:
            a, i, b, j = (row[0], row[1], row[0], row[2]) if len(row) == 3 else row
            first.append(f"{a}_{int(i):04d}")
            second.append(f"{b}_{int(j):04d}")
            same.append(len(row) == 3)
    except FileNotFoundError:
        raise EdgeError(f"{path} does not exist; point --pairs at LFW's pairs.txt") from None
    except (OSError, UnicodeDecodeError, ValueError, IndexError):
        raise EdgeError(f"{path} is not a list of LFW pairs; point --pairs at LFW's pairs.txt") from None
    whole = folds >= 2 and half >= 1 and len(same) == 2 * folds * half
    if not whole or same != ([True] * half + [False] * half) * folds:
        raise EdgeError(f"{path}: {len(same)} pairs do not make {folds} folds (two or more) of {half} + {half}")
    return Pairs(tuple(first), tuple(second), np.array(same), np.repeat(np.arange(folds), 2 * half))


def verify(scores: NDArray[np.floating], pairs: Pairs) -> Verification:
    """Judge similarities `scores` [P] (higher = more alike, finite) of `pairs`."""
    if scores.shape != (len(pairs),) or not np.isfinite(scores).all():
        raise ValueError(f"{len(pairs)} pairs need as many finite scores, got shape {scores.shape}")
    scores = scores.astype(np.float64)  # thresholds lie between neighbouring scores, where float32 has no number
    accuracies, thresholds = [], []
    for fold in range(pairs.folds):
        held = pairs.fold == fold
        threshold = best_threshold(scores[~held], pairs.same[~held])
        thresholds.append(threshold)
        accuracies.append(np.mean((scores[held] > threshold) == pairs.same[held]))
    return Verification(
        accuracy=float(np.mean(accuracies)),
        standard_error=float(np.std(accuracies, ddof=1) / np.sqrt(pairs.folds)),
        tar_at_far=tar_at_far(scores, pairs.same),
        threshold=float(np.mean(thresholds)),
        pairs=len(pairs),
        folds=pairs.folds,
        by_fold=tuple(map(float, accuracies)),
    )


def best_threshold(scores: NDArray[np.floating], same: NDArray[np.bool_]) -> float:
    """The threshold of highest accuracy for the rule `score > threshold`.

    Only midpoints between neighbouring scores (and one step beyond both ends) can differ; of several equally good ones
    the middle one is taken, which is the least lucky choice on unseen pairs.
    """
    levels = np.unique(scores)
    candidates = np.concatenate([[levels[0] - 1e-6], (levels[1:] + levels[:-1]) / 2, [levels[-1] + 1e-6]])
    accepted_same = same.sum() - np.searchsorted(np.sort(scores[same]), candidates, side="right")
    rejected_other = np.searchsorted(np.sort(scores[~same]), candidates, side="right")
    correct = accepted_same + rejected_other
    best = candidates[correct == correct.max()]
    return float(best[len(best) // 2])


def tar_at_far(scores: NDArray[np.floating], same: NDArray[np.bool_], far: float = FALSE_ACCEPTS) -> float:
    """Share of same-person pairs that score above the strictest threshold letting at most `far` of the others through.

    With `n` other pairs the rate moves in steps of 1/n: below 1/far of them, no false accept is allowed at all.
    """
    others = np.sort(scores[~same])[::-1]
    allowed = int(np.floor(far * len(others) + 1e-9))
    limit = others[allowed] if allowed < len(others) else -np.inf
    return float(np.mean(scores[same] > limit))
