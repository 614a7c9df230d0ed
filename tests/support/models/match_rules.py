"""Match rules for tests: thresholds that were not measured, over a cohort that was drawn."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_stscq.bundle.match_rule import Cohort, MatchRule
from edge_stscq.config.match_thresholds import (
    PERHAPS_RATE,
    SAME_PERSON_RATE,
    LayerThresholds,
    Limit,
    Limits,
    MatchThresholds,
    Measurement,
    Rate,
)


def unit_vectors(count: int, seed: int) -> NDArray[np.float32]:
    """Drawn unit vectors float32 `[count, 128]`."""
    drawn = np.random.default_rng(seed).standard_normal((count, 128)).astype(np.float32)
    unit: NDArray[np.float32] = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return unit


def rule_of(
    model_id: str, names: Sequence[str], centers: NDArray[np.float16] | None, same_person: float = 0.3,
    perhaps: float = 0.2,
) -> MatchRule:  # fmt: skip
    """Rule of a model with these layers, without a cohort where there are no centers."""
    cohort = None if centers is None else Cohort(centers)
    counted = Rate(matches=0, pairs=1_000_000, rate=0, low=0, high=1e-5)
    limits = Limits(
        same_person=Limit(score=same_person, false_match_rate=SAME_PERSON_RATE, measured=counted),
        perhaps=Limit(score=perhaps, false_match_rate=PERHAPS_RATE, measured=counted),
    )
    measured = Measurement(
        encoder="drawn", crops=("none",), crops_sha256="0" * 64, faces=2000, people=2000, stranger_pairs=1_000_000,
        cohort_sha256=None if cohort is None else hashlib.sha256(cohort.to_bytes()).hexdigest(),
    )  # fmt: skip
    layers = tuple(LayerThresholds(name=name, pair=limits) for name in names)
    return MatchRule(MatchThresholds(model_id=model_id, measured=measured, layers=layers), cohort)
