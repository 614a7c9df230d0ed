"""Match rule: the score by which two faces are judged, and the thresholds that it is held against.

Some faces lie close to many others: infants, or people of whom a network saw few in training, are alike to it. A cosine
that tells two of others apart says little of two of these, so their cosine is held against how near each of them is to
faces in general. This is local scaling (CSLS, Conneau et al. 2018, equation 3, halved), over a cohort in the sense of
speaker verification's score normalization (Matejka et al. 2017):

    score(a, b) = cosine(a, b) - (density(a) + density(b)) / 2
    density(a) = mean of the NEAREST largest cosines of a to the cohort

The cohort is not of faces but of the centers of clusters of faces, ten or more each: nobody is in it.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from edge_stscq._files import write_file
from edge_stscq.config.codec import EMBEDDING
from edge_stscq.config.match_thresholds import MatchThresholds, Verdict
from edge_stscq.errors import EdgeError

COHORT = "cohort.safetensors"
NEAREST = 3
"""Centers that a density is the mean of: with fewer, one center decides; with more, small groups of people who look
alike to the network are no longer told from the rest."""
MAX_BYTES = 16 << 20


@dataclass(frozen=True, eq=False)
class Cohort:
    """Centers of clusters of faces.

    Attributes:
        centers: unit vectors float16 `[L, C, 128]`, of embeddings from 1, 2, ... L layers.

    Raises:
        ValueError: they are of another shape, or not finite.
    """

    centers: NDArray[np.float16]

    def __post_init__(self) -> None:
        shape = self.centers.shape
        whole = len(shape) == 3 and shape[0] >= 1 and shape[1] >= NEAREST and shape[2] == EMBEDDING
        if not whole or self.centers.dtype != np.float16 or not np.isfinite(self.centers).all():
            raise ValueError(f"no finite float16 centers of shape (layers, {NEAREST} or more, {EMBEDDING})")

    def density(self, unit: NDArray[np.float32], layers: int) -> NDArray[np.float32]:
        """Mean cosine float32 `[N]` of unit embeddings `[N, 128]` of so many layers to the nearest centers."""
        cosines = unit @ self.centers[layers - 1].astype(np.float32).T
        found: NDArray[np.float32] = np.partition(cosines, -NEAREST, axis=1)[:, -NEAREST:].mean(1, dtype=np.float32)
        return found

    def to_bytes(self) -> bytes:
        """Content of the file `cohort.safetensors`."""
        data: bytes = safetensors.numpy.save({"centers": np.ascontiguousarray(self.centers)})
        return data

    @classmethod
    def from_bytes(cls, data: bytes) -> "Cohort":
        """Raise `ValueError` if the bytes are no cohort."""
        try:
            tensors: dict[str, NDArray[Any]] = safetensors.numpy.load(data)
        except (SafetensorError, KeyError, TypeError) as error:
            raise ValueError(f"no safetensors file ({error})") from None
        return cls(tensors.get("centers", np.empty(0)))


@dataclass(frozen=True, eq=False)
class MatchRule:
    """Thresholds of a model and the cohort they were measured with; None where scores are cosines.

    Example:
        >>> rule = MatchRule.load(Path("models/face64"))
        >>> rule.thresholds.verdict(float(rule.scores(face, others, layers=2)[0, 0]), layers=2)
        'same person'
    """

    thresholds: MatchThresholds
    cohort: Cohort | None

    def density(self, unit: NDArray[np.float32], layers: int) -> NDArray[np.float32]:
        """Half of what a score takes off for each of unit embeddings `[N, 128]`: float32 `[N]`, 0 without a cohort."""
        if self.cohort is None:
            return np.zeros(len(unit), np.float32)
        return self.cohort.density(unit, layers)

    def scores(self, a: NDArray[np.float32], b: NDArray[np.float32], layers: int) -> NDArray[np.float32]:
        """Score `[N, M]` of unit embeddings `[N, 128]` and `[M, 128]`, all of so many layers."""
        densities = self.density(a, layers)[:, None] + self.density(b, layers)[None]
        found: NDArray[np.float32] = a @ b.T - densities * np.float32(0.5)
        return found

    def verdict(self, a: NDArray[np.float32], b: NDArray[np.float32], layers: int, track: bool = False) -> Verdict:
        """Verdict on two unit embeddings `[128]`; `track`: `b` is the average of a visit's (`track_average`)."""
        return self.thresholds.verdict(float(self.scores(a[None], b[None], layers)[0, 0]), layers, track)

    @classmethod
    def load(cls, folder: Path) -> "MatchRule | None":
        """The rule of a model's folder; None of a model that was not measured.

        Raises:
            EdgeError: a file is damaged, or the thresholds are those of another cohort.
        """
        thresholds = MatchThresholds.load(folder)
        if thresholds is None:
            return None
        path = Path(folder) / COHORT
        try:
            with path.open("rb") as file:
                data = file.read(MAX_BYTES)
        except FileNotFoundError:
            data = None
        except OSError as error:
            raise EdgeError(f"cannot read {path}: {error.strerror}; copy it again") from None
        return cls.of(thresholds, data, str(path))

    @classmethod
    def of(cls, thresholds: MatchThresholds, cohort: bytes | None, where: str) -> "MatchRule":
        """The rule from thresholds and the content of the cohort's file, which `where` names.

        Raises:
            EdgeError: the cohort is damaged, or not the one that the thresholds were measured with.
        """
        asked = thresholds.measured.cohort_sha256
        found = None if asked is None or cohort is None else hashlib.sha256(cohort).hexdigest()
        if found != asked:
            raise EdgeError(f"{where} is not the cohort that the thresholds were measured with; copy the model again")
        try:
            return cls(thresholds, None if asked is None or cohort is None else Cohort.from_bytes(cohort))
        except ValueError as error:
            raise EdgeError(f"{where}: {error}; copy the model again") from None

    def save(self, folder: Path) -> None:
        """Write both files into a model's folder.

        Raises:
            EdgeError: they cannot be written.
        """
        if self.cohort is not None:
            write_file(Path(folder) / COHORT, self.cohort.to_bytes())
        self.thresholds.save(folder)


def track_average(unit: NDArray[np.float32]) -> NDArray[np.float32]:
    """Unit vector `[128]` of a visit from those of its faces `[N, 128]`."""
    total = unit.sum(0, dtype=np.float64)
    average: NDArray[np.float32] = (total / max(float(np.linalg.norm(total)), 1e-12)).astype(np.float32)
    return average
