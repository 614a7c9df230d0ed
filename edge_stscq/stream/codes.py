"""Codes of many faces as two arrays: what an encoder gives for a batch, and a decoder takes."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_stscq._limits import MAX_LAYERS
from edge_stscq.errors import EdgeError
from edge_stscq.stream.face import CodedFace


@dataclass(frozen=True, eq=False)
class Codes:
    """Codes of N faces that all have the same layers. Iterating gives each as a `CodedFace`.

    Attributes:
        group: int32 `[N]`, the codebook group of each face.
        tokens: int32 `[N, T]`, one codebook index a position.
        layers: how many layers these T tokens are, 1 to 15.

    Raises:
        EdgeError: the arrays do not have these shapes or hold no integers.

    Example:
        >>> codes = Codes([0, 1], [[5, 7], [5, 8]], layers=1)
        >>> codes[1]
        CodedFace(group=1, tokens=array([5, 8], dtype=uint16), layers=1)
        >>> codes.equal_tokens(codes[::-1]).tolist()
        [[False, False], [False, False]]
    """

    group: NDArray[np.int32]
    tokens: NDArray[np.int32]
    layers: int

    def __init__(self, group: ArrayLike, tokens: ArrayLike, layers: int) -> None:
        for name, value in (("group", _int32(group, 1, "group")), ("tokens", _int32(tokens, 2, "tokens"))):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "layers", int(layers))
        if len(self.group) != len(self.tokens):
            raise EdgeError(f"{len(self.group)} groups and the tokens of {len(self.tokens)} faces are no codes")
        if not 1 <= self.layers <= MAX_LAYERS:
            raise EdgeError(f"a face has 1 to {MAX_LAYERS} layers, not {self.layers}")

    @classmethod
    def of(cls, faces: Iterable[CodedFace]) -> "Codes":
        """The codes of these faces, one or more.

        Raises:
            EdgeError: there is none, or they have different numbers of layers or tokens.
        """
        found = list(faces)
        shapes = sorted({(face.layers, len(face.tokens)) for face in found})
        if len(shapes) != 1:
            what = f"these have {shapes[0][0]} to {shapes[-1][0]} layers; truncate them" if shapes else "there is none"
            raise EdgeError(f"codes are of faces with equally many layers and tokens; {what}")
        return cls([face.group for face in found], np.stack([face.tokens for face in found]), found[0].layers)

    @classmethod
    def concatenate(cls, parts: Sequence["Codes"]) -> "Codes":
        """All faces of one or more codes with the same layers, in order."""
        layers = {part.layers for part in parts}
        if len(layers) != 1:
            raise EdgeError(f"only codes with the same layers are joined, not with {sorted(layers)}")
        return cls(np.concatenate([p.group for p in parts]), np.concatenate([p.tokens for p in parts]), layers.pop())

    def __len__(self) -> int:
        return len(self.group)

    def __iter__(self) -> Iterator[CodedFace]:
        return (self[row] for row in range(len(self)))

    @overload
    def __getitem__(self, rows: int) -> CodedFace: ...

    @overload
    def __getitem__(self, rows: slice | NDArray[np.integer] | NDArray[np.bool_] | list[int]) -> "Codes": ...

    def __getitem__(
        self, rows: int | slice | NDArray[np.integer] | NDArray[np.bool_] | list[int]
    ) -> "CodedFace | Codes":
        """One face by its number; or the codes of some rows, by a slice, a mask or numbers."""
        if isinstance(rows, int | np.integer):
            return CodedFace(int(self.group[rows]), self.tokens[rows], self.layers)
        return Codes(self.group[rows], self.tokens[rows], self.layers)

    def truncate(self, layers: int, layer_ends: Sequence[int]) -> "Codes":
        """The same faces with their first `layers` layers only.

        Args:
            layer_ends: of the model, e.g. `(16, 32, 64)`.

        Raises:
            EdgeError: `layers` is below 1 or above what the faces have.
        """
        if not 1 <= layers <= self.layers:
            raise EdgeError(f"cannot cut faces of {self.layers} layers to {layers}; choose 1 to {self.layers}")
        return Codes(self.group, self.tokens[:, : layer_ends[layers - 1]], layers)

    def equal_tokens(self, other: "Codes") -> NDArray[np.bool_]:
        """Which tokens of the same faces are the same, bool `[N, T]`: in another group an index means another codeword.

        Raises:
            EdgeError: the codes are of different numbers of faces or tokens.
        """
        if self.tokens.shape != other.tokens.shape:
            raise EdgeError(f"codes differ in shape: {self.tokens.shape} and {other.tokens.shape}")
        return np.asarray((self.tokens == other.tokens) & (self.group == other.group)[:, None])


def _int32(values: ArrayLike, ndim: int, name: str) -> NDArray[np.int32]:
    array = np.asarray(values)
    if array.ndim != ndim or (array.dtype.kind not in "iu" and array.size):
        raise EdgeError(f"{name} of codes is {array.dtype} of shape {array.shape}, not integers in {ndim} dimensions")
    return array.astype(np.int32, copy=False)
