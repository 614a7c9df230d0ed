"""Embeddings out of templates: a network that learned from other people's, with the key and without.

With the key the network is given what the key undoes in closed form: the turned-back groups, the slerp undone at right
angles, or the most probable embedding of a polynomial template. Success is a match with another picture of the person
at the threshold that one in a thousand strangers reach unprotected; chance is how often the same inversion matches
other people.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.privacy.subjects import Unprotected, fresh_keys, stored
from edge_stscq.config.codec import EMBEDDING
from edge_stscq.privacy import PolyProtect, RecordKey, RotatedGroups, Scheme, SlerpFace
from edge_stscq.privacy.slerpface import DIMS, GROUPS

TEMPLATES = (1, 2, 5, 10)
HIDDEN = 256
STEPS = 600
BATCH = 256
ROUNDS = 3
"""Gauss-Newton steps to the most probable embedding of a polynomial template."""


class Inverter(nn.Module):
    """Features `[N, F]` -> unit embeddings `[N, 128]`: a matrix and, beside it, two hidden layers."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, EMBEDDING)
        self.deep = nn.Sequential(
            nn.Linear(features, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, EMBEDDING)
        )

    def forward(self, features: Tensor) -> Tensor:
        return nn.functional.normalize(self.linear(features) + self.deep(features))


class Attack:
    """An attacker who trains on templates of people he knows.

    Args:
        known: their embeddings `[N, 128]`, each protected under a fresh key.
        with_key: he has the keys, of these and of those he attacks.
    """

    def __init__(self, scheme: Scheme[Any], known: NDArray[np.float32], with_key: bool) -> None:
        self.scheme, self.with_key = scheme, with_key
        self._covariance = known.T @ known / len(known)
        self._mean = known.mean(0)
        keys = fresh_keys("attacker", len(known))
        features = self._features(stored(scheme, known, keys), keys)
        self._center, self._spread = features.mean(0), features.std(0) + 1e-6
        self._network = _trained(self._standard(features), torch.from_numpy(known))

    def invert(self, values: NDArray[np.float32], keys: Sequence[RecordKey]) -> NDArray[np.float32]:
        """Unit embeddings `[N, 128]` guessed from stored values `[N, V]`; keys are looked at only with the key."""
        with torch.no_grad():
            guess: NDArray[np.float32] = self._network(self._standard(self._features(values, keys))).numpy()
        return guess

    def closeness(self, first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
        """Cosines `[N]` of what two sets of templates are guessed to be, without a key."""
        return np.einsum("nd,nd->n", self.invert(first, ()), self.invert(second, ()))

    def _standard(self, features: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(((features - self._center) / self._spread).astype(np.float32))

    def _features(self, values: NDArray[np.float32], keys: Sequence[RecordKey]) -> NDArray[np.float32]:
        if not self.with_key or isinstance(self.scheme, Unprotected):
            return values
        if isinstance(self.scheme, RotatedGroups):
            return np.stack([self.scheme.row(v, self.scheme.parameters(k)) for v, k in zip(values, keys, strict=True)])
        if isinstance(self.scheme, SlerpFace):
            return np.stack([_unslerped(self.scheme, v, k) for v, k in zip(values, keys, strict=True)])
        assert isinstance(self.scheme, PolyProtect)
        found = [
            most_probable(self.scheme, v, k, self._mean, self._covariance) for v, k in zip(values, keys, strict=True)
        ]
        return np.stack(found)


def inversion(
    attack: Attack, faces: NDArray[np.float32], other_pictures: NDArray[np.float32], threshold: float
) -> list[dict[str, float]]:
    """Success of an attack on templates of `faces` `[N, 128]`, row by row of the people of `other_pictures`."""
    guesses, found = np.zeros_like(faces), []
    for number in range(max(TEMPLATES)):
        keys = fresh_keys(f"attacked {number}", len(faces))
        guesses += attack.invert(stored(attack.scheme, faces, keys), keys)
        if number + 1 in TEMPLATES:
            unit = guesses / np.linalg.norm(guesses, axis=1, keepdims=True)
            cosines = unit @ other_pictures.T
            same = np.einsum("nd,nd->n", unit, faces)
            hits, mates = cosines > threshold, np.eye(len(faces), dtype=bool)
            found.append({
                "templates": number + 1, "cosine": float(same.mean()), "same_picture": float((same > threshold).mean()),
                "other_picture": float(hits[mates].mean()), "chance": float(hits[~mates].mean()),
            })  # fmt: skip
    return found


def most_probable(
    scheme: PolyProtect, values: NDArray[np.float32], key: RecordKey, mean: NDArray[np.float32],
    covariance: NDArray[np.float32],
) -> NDArray[np.float32]:  # fmt: skip
    """Unit embedding `[128]` of highest posterior for a polynomial template, with a normal prior, by Gauss-Newton."""
    (coefficients, exponents), start = scheme.parameters(key), mean.astype(np.float64)
    guess, places = start.copy(), np.arange(scheme.windows)[:, None]
    columns = np.arange(scheme.windows)[:, None] * (len(exponents) - scheme.overlap) + np.arange(len(exponents))
    inside = columns < EMBEDDING
    scale = scheme.scale * EMBEDDING**0.5
    noise = 1e-4 * np.square(values).mean() + 1e-9
    for _ in range(ROUNDS):
        windows = scheme.windowed(guess)
        slopes = coefficients * exponents * windows ** (exponents - 1) * scale
        jacobian = np.zeros((scheme.windows, EMBEDDING))
        jacobian[np.broadcast_to(places, columns.shape)[inside], columns[inside]] = slopes[inside]
        rest = values - windows**exponents @ coefficients + jacobian @ (guess - start)
        gain = covariance @ jacobian.T
        guess = start + gain @ np.linalg.solve(jacobian @ gain + noise * np.eye(scheme.windows), rest)
        guess /= max(np.linalg.norm(guess), 1e-9)
    return guess.astype(np.float32)


def _unslerped(scheme: SlerpFace, values: NDArray[np.float32], key: RecordKey) -> NDArray[np.float32]:
    """Groups with the key's part taken off as if it were at right angles, the kept dimensions and the attention."""
    stored_groups = values.reshape(GROUPS, DIMS)
    attention = np.linalg.norm(stored_groups, axis=1, keepdims=True)
    kept = stored_groups != 0
    keys = scheme.parameters(key).keys
    way = np.maximum(0.9 - attention, 0) * np.pi / 2
    turned = stored_groups / attention
    on_key = np.sin(way) * keys * kept
    length = np.sqrt(np.square(on_key).sum(1, keepdims=True) + np.square(np.cos(way)) * kept.mean(1, keepdims=True))
    undone = (turned * length - on_key) / np.cos(way) * np.sqrt(attention)
    return np.concatenate([undone, kept], axis=1).astype(np.float32).ravel()


def _trained(features: Tensor, targets: Tensor) -> Inverter:
    torch.manual_seed(0)
    network = Inverter(features.shape[1])
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, STEPS)
    for _ in range(STEPS):
        chosen = torch.randint(len(features), (BATCH,))
        loss = 1 - (network(features[chosen]) * targets[chosen]).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()
