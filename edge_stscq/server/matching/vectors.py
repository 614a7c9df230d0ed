"""Vectors by which the faces of a model are compared.

Identity is read from tokens, without decoding a picture: the vector of a face is its unit embedding. Layers that bring
no identity tokens do not change it, so there is one for each prefix of layers that does: face64 has two, 64 numbers of
the basic layer and 128 of basic and middle. Both are held in the coordinates of the space in which they lie: fewer
numbers, the same products.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_stscq.errors import FrameError
from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.server.storage.face_store import Change, ErasedFace, StoredFace
from edge_stscq.stream.envelope import WireFrame
from edge_stscq.stream.face import CodedFace

log = logging.getLogger(__name__)

_FORMAT = b"1"
"""Of vectors and densities: another one makes other fingerprints."""


class SearchHit(NamedTuple):
    """A face, its cosine to the one searched for, -1 to 1, and the score that it is judged by (`bundle.match_rule`)."""

    id: str
    cosine: float
    score: float


class Query(NamedTuple):
    """A face that is searched for.

    Attributes:
        prefix: layers that it is compared by.
        vector: float32 `[r]`, a unit vector in the coordinates of the prefix.
        density: how near it is to the cohort.
    """

    prefix: int
    vector: NDArray[np.float32]
    density: float


class Taken(NamedTuple):
    """Faces of a model that changes bring or take away.

    Attributes:
        faces: that came or grew, `N` of them, each once.
        layers: uint8 `[N]`, how many each has.
        vectors: by prefix, vectors float32 `[n, r]` and densities `[n]` of those among the faces that have its layers.
        gone: ids of those that were erased.
    """

    faces: list[StoredFace]
    layers: NDArray[np.uint8]
    vectors: dict[int, tuple[NDArray[np.float32], NDArray[np.float32]]]
    gone: set[str]


class FaceVectors:
    """Faces of one model -> vectors.

    Args:
        bases: of an index that was made before, by prefix; None makes them.

    Attributes:
        bases: orthonormal columns float32 `[128, r]`, by prefix of layers.
        fingerprint: 16 hexadecimal digits: of all that vectors and densities follow from, but for the bases.
    """

    def __init__(self, model: CatalogEntry, bases: Mapping[int, NDArray[np.float32]] | None = None) -> None:
        self._codec, self._matcher, self._rule = model.codec, model.matcher, model.rule
        counts = np.cumsum([layer.identity for layer in self._matcher.config.layers])
        self._prefixes = [int(np.searchsorted(counts, count)) + 1 for count in counts]
        self.bases = dict(bases or {prefix: self._matcher.basis(prefix) for prefix in set(self._prefixes)})
        cohort = None if model.rule is None else model.rule.cohort
        parts = _FORMAT, model.model_id, self._matcher.digest, b"" if cohort is None else cohort.to_bytes()
        self.fingerprint = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:16]

    def embed(self, faces: Sequence[CodedFace], layers: int) -> NDArray[np.float32]:
        """Unit embeddings [N, 128] from the first `layers` layers of faces that have as many."""
        return self._matcher.embed(faces, layers)

    def query(self, face: CodedFace) -> Query:
        """A face to search for, by all the layers that it has."""
        prefix = self._prefixes[face.layers - 1]
        unit = self.embed([face], prefix)
        return Query(prefix, (unit @ self.bases[prefix])[0], float(self._density(unit, prefix)[0]))

    def take(self, changes: Sequence[Change]) -> Taken:
        """Faces that came, grew or went, of changes in the order of their revisions.

        Faces of other models are passed over, and damaged ones noted in the log.
        """
        latest: dict[str, tuple[StoredFace, WireFrame]] = {}
        gone: set[str] = set()
        for stored in changes:
            name = stored.id
            if isinstance(stored, ErasedFace):
                latest.pop(name, None)
                gone.add(name)
                continue
            if stored.model != self._codec.model_id or stored.protected:
                continue
            gone.discard(name)
            try:
                latest[name] = stored, stored.frame()
            except FrameError as error:
                latest.pop(name, None)
                log.error("%s cannot be found by example: %s", name, error)
        kept, faces = list[StoredFace](), list[CodedFace]()
        decoded = self._codec.faces([frame for _, frame in latest.values()])
        for (name, (stored, _)), face in zip(latest.items(), decoded, strict=True):
            if isinstance(face, FrameError):
                log.error("%s cannot be found by example: %s", name, face)
                continue
            kept.append(stored)
            faces.append(face)
        vectors: dict[int, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
        for prefix, basis in self.bases.items():
            units = self.embed([face for face in faces if face.layers >= prefix], prefix)
            vectors[prefix] = units @ basis, self._density(units, prefix)
        return Taken(kept, np.array([face.layers for face in faces], np.uint8), vectors, gone)

    def _density(self, unit: NDArray[np.float32], layers: int) -> NDArray[np.float32]:
        return np.zeros(len(unit), np.float32) if self._rule is None else self._rule.density(unit, layers)
