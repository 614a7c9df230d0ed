"""For whom a codec is worse: false matches and codebook groups by label.

Where every face is another person's, every pair that scores above a threshold is a false match. Thresholds are fixed
beforehand and the same for all labels, as they are in use: a label whose people look alike to the codec then shows as
more false matches. Intervals are Wilson's (1927). Pairs share faces and so are not independent: true intervals are
wider than these. A person who is in the set twice counts as a false match, too.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from edge_stscq.errors import EdgeError

THRESHOLDS = (0.3, 0.4, 0.5)
"""Cosines above which two faces are taken for one person's."""
AGES = (0, 4, 13, 20, 40, 60, 200)
AGE_NAMES = ("0 to 3", "4 to 12", "13 to 19", "20 to 39", "40 to 59", "60 and older")
GENDERS = ("male", "female")
RACES = ("White", "Black", "Asian", "Indian", "other")
"""UTKFace's names of these; estimated by its authors, not asked of the people."""
_Z = 1.959963984540054
"""Normal quantile of an interval of 95 %."""


class Rate(BaseModel):
    """A share of pairs with its 95 % interval."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: float
    matches: int
    pairs: int = Field(gt=0)
    rate: float = Field(ge=0, le=1)
    low: float = Field(ge=0, le=1)
    high: float = Field(ge=0, le=1)


def utkface_labels(names: Sequence[str]) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    """Label, its value and which faces have it, of names that begin with `age_gender_race_`.

    Raises:
        EdgeError: they do not.
    """
    try:
        age, gender, race = np.array([[int(part) for part in name.split("_")[:3]] for name in names]).T
    except ValueError:
        raise EdgeError("names of crops do not begin with age_gender_race_; use UTKFace's val.tar") from None
    columns = (("age", AGE_NAMES, np.digitize(age, AGES) - 1), ("gender", GENDERS, gender), ("race", RACES, race))
    for label, values, column in columns:
        for index, value in enumerate(values):
            yield label, value, column == index


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """95 % interval of a share `hits / trials`; it never leaves 0..1 and is not empty at 0 hits.

    Example:
        >>> [round(end, 3) for end in wilson(0, 100)]
        [0.0, 0.037]
    """
    share, square = hits / trials, _Z * _Z / trials
    middle = (share + square / 2) / (1 + square)
    half = np.sqrt(share * (1 - share) * square + square * square / 4) / (1 + square)
    low = 0.0 if hits == 0 else max(0.0, float(middle - half))
    high = 1.0 if hits == trials else min(1.0, float(middle + half))
    return low, high


def false_matches(unit: NDArray[np.floating], thresholds: Sequence[float] = THRESHOLDS) -> list[Rate]:
    """Share of all pairs of faces whose cosine is above each threshold.

    Args:
        unit: unit vectors [N, D] of N different people, two or more.
    """
    rows, columns = np.triu_indices(len(unit), 1)
    scores = (unit.astype(np.float64) @ unit.T.astype(np.float64))[rows, columns]
    found = []
    for threshold in thresholds:
        hits = int((scores > threshold).sum())
        low, high = wilson(hits, len(scores))
        share = hits / len(scores)
        found.append(Rate(threshold=threshold, matches=hits, pairs=len(scores), rate=share, low=low, high=high))
    return found


def group_shares(group: NDArray[np.integer], groups: int) -> list[float]:
    """Share of faces in each codebook group, [groups]."""
    return [float(share) for share in np.bincount(group, minlength=groups) / len(group)]


def told_bits(group: NDArray[np.integer], label: NDArray[np.integer]) -> float:
    """Bits that the codebook group of a face tells of its label: their mutual information.

    What so few faces show by chance (Miller 1955) is taken off, so values below 0 are set to 0.
    """
    table = np.zeros((int(group.max()) + 1, int(label.max()) + 1))
    np.add.at(table, (group, label), 1)
    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    joint = table / table.sum()
    apart = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    bits = float((joint * np.log2(np.where(joint > 0, joint / apart, 1))).sum())
    chance = (table.shape[0] - 1) * (table.shape[1] - 1) / (2 * table.sum() * np.log(2))
    return max(0.0, bits - float(chance))
