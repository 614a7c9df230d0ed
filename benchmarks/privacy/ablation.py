"""From SlerpFace to rotated groups, one change at a time; and an attention that is learned, beside fixed ones."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.privacy.linkage import linkage
from benchmarks.privacy.subjects import fresh_keys, pair_scores
from edge_stscq.evaluation.verification.pairs import best_threshold
from edge_stscq.privacy import PolyProtect, RecordKey, RotatedGroups, Scheme, SlerpFace
from edge_stscq.privacy.draws import gaussian, orders
from edge_stscq.privacy.slerpface import DIMS, GROUPS, SlerpParameters, slerp, unit_groups

DRAWS = 2
"""Keys that each pair is measured under."""


class UnitSlerp(SlerpFace):
    """SlerpFace with groups stored as unit vectors, equally many dimensions dropped, and one way for all groups."""

    def __init__(self, way: float, kept: int = 12) -> None:
        self._part, self._kept = np.full(GROUPS, way), kept

    def parameters(self, key: RecordKey) -> SlerpParameters:
        drops = orders(key, "unit slerp drops", GROUPS, DIMS)[:, self._kept :]
        return SlerpParameters(unit_groups(gaussian(key, "unit slerp keys", (GROUPS, DIMS))), drops)

    def protect(self, unit: NDArray[np.float64], parameters: SlerpParameters) -> NDArray[np.float32]:
        turned = slerp(unit_groups(unit.reshape(GROUPS, DIMS)), parameters.keys, self.way(unit))
        np.put_along_axis(turned, parameters.drops, 0, axis=1)
        return unit_groups(turned).astype(np.float32).ravel()

    def way(self, unit: NDArray[np.float64]) -> NDArray[np.float64]:
        return self._part


def steps(
    embeddings: NDArray[np.float32], first: NDArray[np.float32], second: NDArray[np.float32], same: NDArray[np.bool_]
) -> list[Mapping[str, Any]]:
    """Linkability without a key, and accuracy with it, of every step."""
    schemes: list[tuple[str, Scheme[Any]]] = [("SlerpFace as published", SlerpFace())]
    schemes += [(f"unit groups, uniform dropout, {way:g} of the way", UnitSlerp(way)) for way in (0.5, 0.775, 0.9)]
    schemes.append(("rotated instead of slerped, 4 bits", RotatedGroups()))
    return [
        {"step": name, **{attacker: found["d_sys"] for attacker, found in linkage(scheme, embeddings).items()}}
        | stolen(scheme, first, second, same)
        for name, scheme in schemes
    ]


def sizes(first: NDArray[np.float32], second: NDArray[np.float32], same: NDArray[np.bool_]) -> list[Mapping[str, Any]]:
    """Accuracy under stolen keys of other dropouts and codes of ours, and of PolyProtect's overlaps."""
    tried: list[tuple[str, Scheme[Any]]] = [
        (f"rotated, {kept} of {DIMS} kept, {bits} bits", RotatedGroups(kept, bits))
        for kept, bits in ((16, 3), (14, 3), (13, 4), (12, 4), (10, 4), (8, 5), (6, 5), (4, 5))
    ]
    tried += [(f"polyprotect, overlap {overlap}", PolyProtect(overlap)) for overlap in range(5)]
    return [
        {"scheme": name, "template_bytes": scheme.template_bytes} | stolen(scheme, first, second, same)
        for name, scheme in tried
    ]


def stolen(
    scheme: Scheme[Any], first: NDArray[np.float32], second: NDArray[np.float32], same: NDArray[np.bool_]
) -> dict[str, float]:
    """Best accuracy and d' of pairs matched under the enrolled one's key, means over a few keys a pair."""
    found = []
    for draw in range(DRAWS):
        keys = fresh_keys(f"chosen {draw}", len(same))
        found.append(told(pair_scores(scheme, first, keys, second, keys), same))
    return {name: float(np.mean([each[name] for each in found])) for name in found[0]}


def attention(
    first: NDArray[np.float32], second: NDArray[np.float32], same: NDArray[np.bool_]
) -> list[Mapping[str, Any]]:
    """Weights of groups before any protection: uniform, energy, and learned on one half of the pairs for the other.

    Learned are a bias a group and the power of its energy, by gradient descent on the logistic loss of pairs: a loss of
    ours, since the paper's is not public.
    """
    energy = np.square(first.reshape(-1, GROUPS, DIMS).astype(np.float64)).sum(2)
    units = [unit_groups(side.reshape(-1, GROUPS, DIMS).astype(np.float64)) for side in (first, second)]
    cosines = np.einsum("ngd,ngd->ng", *units)
    learned, half = np.empty_like(energy), np.arange(len(same)) % 2 == 0
    for chosen in (half, ~half):
        learned[~chosen] = _weights(_fitted(energy[chosen], cosines[chosen], same[chosen]), energy[~chosen])
    weights = {"uniform": np.full_like(energy, 1 / GROUPS), "energy": energy, "learned": learned}
    return [{"attention": name, **told((weight * cosines).sum(1), same)} for name, weight in weights.items()]


def told(scores: NDArray[np.floating], same: NDArray[np.bool_]) -> dict[str, float]:
    """Best accuracy of scores on these pairs, and how far the two kinds lie apart in deviations (d')."""
    one, two = scores[same].astype(np.float64), scores[~same].astype(np.float64)
    return {
        "accuracy": float(np.mean((scores > best_threshold(scores.astype(np.float64), same)) == same)),
        "d_prime": float((one.mean() - two.mean()) / np.sqrt((one.var() + two.var()) / 2)),
    }


def _weights(parameters: NDArray[np.float64], energy: NDArray[np.float64]) -> NDArray[np.float64]:
    logits = parameters[1] * np.log(energy) + parameters[2:]
    raised = np.exp(logits - logits.max(1, keepdims=True))
    weights: NDArray[np.float64] = raised / raised.sum(1, keepdims=True)
    return weights


def _fitted(energy: NDArray[np.float64], cosines: NDArray[np.float64], same: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Threshold, power of the energy and biases of least logistic loss."""
    parameters = np.concatenate([[0.3, 1.0], np.zeros(GROUPS)])
    sign = np.where(same, 1.0, -1.0)

    def loss(at: NDArray[np.float64]) -> float:
        margin = 10 * sign * ((_weights(at, energy) * cosines).sum(1) - at[0])
        return float(np.logaddexp(0, -margin).mean() + 1e-2 * (np.square(at[2:]).sum() + (at[1] - 1) ** 2))

    steps = 1e-4 * np.eye(len(parameters))
    for _ in range(200):
        slope = np.array([(loss(parameters + step) - loss(parameters - step)) / 2e-4 for step in steps])
        parameters = parameters - 0.1 * slope
    return parameters
