"""One coded face: a group and the tokens of its first layers.

Tokens come layer by layer, so cutting the array after a layer leaves a valid code of a coarser face.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_stscq._limits import MAX_LAYERS
from edge_stscq.errors import EdgeError


@dataclass(frozen=True, eq=False)
class CodedFace:
    """Group and tokens that a frame carries.

    Attributes:
        group: switched codebook set, `0 <= group < M`.
        tokens: uint16 `[layer_ends[layers - 1]]`, one codebook index a position; read-only.
        layers: how many there are, 1 to 15; the tables say what 1, 2, ... of them are.

    Example:
        >>> face = CodedFace(group=0, tokens=[5, 7], layers=1)
        >>> face.truncate(1, layer_ends=(2, 4)) == face
        True
    """

    group: int
    tokens: NDArray[np.uint16]
    layers: int

    def __post_init__(self) -> None:
        if not 1 <= self.layers <= MAX_LAYERS:
            raise EdgeError(f"a face has 1 to {MAX_LAYERS} layers, not {self.layers}")
        object.__setattr__(self, "group", int(self.group))
        object.__setattr__(self, "tokens", _as_tokens(self.tokens))

    @classmethod
    def of_checked(cls, group: int, tokens: NDArray[np.uint16], layers: int) -> "CodedFace":
        """A face whose parts a decoder made, and which are what they must be; `tokens` are read-only from now on."""
        face = object.__new__(cls)
        tokens.flags.writeable = False
        for name, value in (("group", group), ("tokens", tokens), ("layers", layers)):
            object.__setattr__(face, name, value)
        return face

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CodedFace):
            return NotImplemented
        same = self.group == other.group and self.layers == other.layers
        return same and np.array_equal(self.tokens, other.tokens)

    def __hash__(self) -> int:
        return hash((self.group, self.layers, self.tokens.tobytes()))

    def truncate(self, layers: int, layer_ends: Sequence[int]) -> "CodedFace":
        """The same face with its first `layers` layers only.

        Args:
            layer_ends: of the face's model, e.g. `(16, 32, 64)`.

        Raises:
            EdgeError: `layers` is below 1 or above what the face has.
        """
        if not 1 <= layers <= self.layers:
            raise EdgeError(f"cannot cut a face of {self.layers} layers to {layers}; choose 1 to {self.layers}")
        return CodedFace(self.group, self.tokens[: layer_ends[layers - 1]], layers)


def _as_tokens(values: ArrayLike) -> NDArray[np.uint16]:
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise EdgeError(f"tokens are a flat array of integers, not {array.dtype} of shape {array.shape}")
    if array.size and not 0 <= int(array.min()) <= int(array.max()) <= 0xFFFF:
        raise EdgeError(f"tokens lie between 0 and 65535, found {array.min()} to {array.max()}")
    tokens = array.astype(np.uint16)
    tokens.flags.writeable = False
    return tokens
