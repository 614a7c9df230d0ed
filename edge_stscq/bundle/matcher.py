"""Matching in the compressed domain: identity is read from tokens with numpy alone, on devices and servers alike.

The arithmetic is that of `codec/matching.py`, by which models are trained and judged: cosines of the two agree within
1e-5.
"""

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from edge_stscq.bundle.bundle import Bundle
from edge_stscq.bundle.projection import IdentityProjection
from edge_stscq.config.codec import CodecConfig
from edge_stscq.errors import EdgeError
from edge_stscq.stream.face import CodedFace

_LEAST_NORM = np.float32(1e-12)


class Matcher:
    """Coded faces of one model -> unit vectors whose cosine tells whether two faces are one person's.

    Args:
        config: of the model.
        books: its codebooks float32 `[M, T, K, D]`.
        projection: what its identity tokens mean.

    Example:
        >>> matcher = Matcher.of(open_bundle("bundles/onnx-int8"))
        >>> alike = matcher.cosine(encoder.encode(crop), encoder.encode(other_crop)) > threshold
    """

    def __init__(self, config: CodecConfig, books: NDArray[np.float32], projection: IdentityProjection) -> None:
        self.config = config
        self._books = books
        self._positions = np.flatnonzero(config.is_identity)
        self._projection = projection.projection
        self._center = (projection.center - projection.mean) @ projection.projection
        self._arrays = books, *vars(projection).values()

    @classmethod
    def of(cls, bundle: Bundle) -> "Matcher":
        """The matcher of an open bundle.

        Raises:
            BundleError: as `Bundle.projection`: the bundle is too old to match, or damaged.
        """
        return cls(bundle.config, bundle.books, bundle.projection)

    @property
    def digest(self) -> bytes:
        """SHA-256 of the codebooks and the projection: matchers of one digest embed alike."""
        found = hashlib.sha256()
        for array in self._arrays:
            found.update(array.astype("<f4").tobytes())
        return found.digest()

    def embed(self, faces: Iterable[CodedFace], layers: int | None = None) -> NDArray[np.float32]:
        """Unit embeddings float32 `[N, 128]`, all from equally many layers, so that each may be compared with each.

        A face whose layers hold no identity token has a row of zeros.

        Args:
            layers: how many; None takes as many as all of these faces have.

        Raises:
            EdgeError: a face has fewer layers, or is not of this model.
        """
        found, ends = list(faces), self.config.layer_ends
        for count in {face.layers for face in found}:
            self.config.check_layers(count)
        if any(len(face.tokens) != ends[face.layers - 1] for face in found):
            raise self._of_another_model()
        if layers is None:
            layers = min((face.layers for face in found), default=1)
        end = ends[self.config.check_layers(layers) - 1]
        if any(face.layers < layers for face in found):
            raise EdgeError(f"a face has fewer than {layers} layers; compare by the layers that all faces have")
        group = np.array([face.group for face in found], np.intp)
        whole = np.concatenate([face.tokens for face in found]) if found else np.zeros(0, np.uint16)
        if found and not (0 <= group.min() <= group.max() < self.config.groups and whole.max() < self.config.entries):
            raise self._of_another_model()
        positions = self._positions[self._positions < end]
        sizes = {len(face.tokens) for face in found}
        if len(sizes) > 1:
            whole = np.concatenate([face.tokens[:end] for face in found])
        tokens = whole.reshape(len(found), end if len(sizes) != 1 else sizes.pop())[:, positions].astype(np.intp)
        words = self._books[group[:, None], positions, tokens].reshape(len(found), len(positions) * self.config.dim)
        size = words.shape[1]
        deviation = (words - self._center[:size]) @ self._projection[:, :size].T
        norm = np.linalg.norm(deviation, axis=1, keepdims=True)
        unit: NDArray[np.float32] = (deviation / np.maximum(norm, _LEAST_NORM)).astype(np.float32, copy=False)
        return unit

    def basis(self, layers: int) -> NDArray[np.float32]:
        """Orthonormal columns float32 `[128, r]` of the space in which embeddings of so many layers lie.

        `unit @ basis` has the same products as `unit`, in fewer numbers.
        """
        size = int((self._positions < self.config.layer_ends[self.config.check_layers(layers) - 1]).sum())
        columns = self._projection[:, : size * self.config.dim].astype(np.float64)
        left, values, _ = np.linalg.svd(columns, full_matrices=False)
        found: NDArray[np.float32] = left[:, values > 1e-6 * max(values.max(initial=0.0), 1.0)].astype(np.float32)
        return found

    def cosine(self, a: CodedFace, b: CodedFace) -> float:
        """Cosine similarity of two faces, -1 to 1, by the layers that both have.

        Raises:
            EdgeError: a face is not of this model.
        """
        first, second = self.embed((a, b))
        return float(np.clip(first @ second, -1, 1))

    def _of_another_model(self) -> EdgeError:
        """Refusal of a face of another model, as far as it can be told from its shape."""
        name = self.config.name
        return EdgeError(f"the face is of another model than {name}; match it with the bundle that coded it")
