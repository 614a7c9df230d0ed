"""Weights of the learned entropy model: whole numbers of eight bits, and the bounds that keep every sum of them exact.

All sums of products are computed as float32, in which a matrix product is fast everywhere. They are whole numbers below
`2**24` and so is each of their parts, which float32 holds without rounding: in whatever order a processor adds them,
the sum is the same. `Weights` refuses a shape or a number with which that would not be so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from edge_stscq._files import write_file
from edge_stscq.errors import EdgeError

FILE = "learned.safetensors"
"""Name of the weights in a model folder and in a bundle."""
MOST = 127
"""No code word's component and no weight is larger, without its sign."""
TILT_LIMIT = 4095
"""No tilt is larger, without its sign."""
TILT_STEP = 512
"""Tilts are counted in units of one bit by this, for a component of `WORD_STEP`."""
WORD_STEP = 32
"""Components of code words are counted in units of their standard deviation by this."""
SQUARE_SHIFT = 7
"""Bits that a square of a component loses."""
_EXACT = 1 << 24
_MOST_DIM = _EXACT // (2 * MOST * (TILT_LIMIT + 1))
_MOST_SHIFT = 20


@dataclass(frozen=True, eq=False)
class Weights:
    """Code words and weights of `M` groups, `T` positions, `K` entries and `D` components, in `L` layers.

    Attributes:
        words: int8 `[M, T, K, D]`, the codebooks in units of a standard deviation by `WORD_STEP`.
        bias: int32 `[M, T, 2 D]`, added to the sums before they are shifted.
        shifts: uint8 `[T, 2 D]`, bits that a sum loses, at most 20.
        matrices: of the layers 2 to `L`, int8 `[positions of the layer, 2 D, tokens of the layers below, D]`.

    Raises:
        EdgeError: the arrays do not fit each other, or their sums could reach `2**24`.
    """

    names: ClassVar[tuple[str, ...]] = ("words", "bias", "shifts")

    words: NDArray[np.int8]
    bias: NDArray[np.int32]
    shifts: NDArray[np.uint8]
    matrices: tuple[NDArray[np.int8], ...]

    def __post_init__(self) -> None:
        groups, tokens, _, dim = _checked("words", self.words, np.int8, (None,) * 4)
        forms = 2 * dim
        _checked("bias", self.bias, np.int32, (groups, tokens, forms))
        _checked("shifts", self.shifts, np.uint8, (tokens, forms))
        end = tokens - sum(len(matrix) for matrix in self.matrices)
        for number, matrix in enumerate(self.matrices, start=2):
            _checked(f"weights of layer {number}", matrix, np.int8, (None, forms, end, dim))
            end += len(matrix)
        longest = max((matrix[0, 0].size for matrix in self.matrices), default=0)
        if dim > _MOST_DIM or longest * MOST**2 >= _EXACT or int(np.abs(self.bias.astype(np.int64)).max()) >= _EXACT:
            raise EdgeError("sums of these weights could reach 2^24, up to which they are exact")
        if self.shifts.max() > _MOST_SHIFT or any(array.min() < -MOST for array in (self.words, *self.matrices)):
            raise EdgeError(f"a weight is below {-MOST}, or a shift above {_MOST_SHIFT}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(M, T, K)`."""
        groups, tokens, entries, _ = self.words.shape
        return groups, tokens, entries

    @cached_property
    def layer_ends(self) -> tuple[int, ...]:
        """Tokens in the prefix that ends with each layer."""
        ends = [self.words.shape[1]]
        for matrix in reversed(self.matrices):
            ends.append(ends[-1] - len(matrix))
        return tuple(reversed(ends))

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """All of them by name, as they are hashed and stored."""
        found: dict[str, NDArray[np.generic]] = {name: getattr(self, name) for name in self.names}
        return found | {f"weights.{number}": matrix for number, matrix in enumerate(self.matrices, start=2)}

    def save(self, path: Path) -> None:
        """Write a safetensors file, in one step and with the same bytes every time."""
        write_file(path, safetensors.numpy.save({k: np.ascontiguousarray(v) for k, v in self.arrays().items()}))

    @classmethod
    def load(cls, path: Path) -> "Weights":
        """Read what `save` wrote.

        Raises:
            EdgeError: the file is missing, damaged or holds no such weights.
        """
        try:
            return cls.from_bytes(path.read_bytes())
        except OSError as error:
            raise EdgeError(f"cannot read {path}: {error.strerror}") from error
        except EdgeError as error:
            raise EdgeError(f"{path}: {error}") from error

    @classmethod
    def from_bytes(cls, data: bytes) -> "Weights":
        """`load` for the contents of a file."""
        try:
            tensors = safetensors.numpy.load(data)
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise EdgeError(f"not a file of a learned entropy model ({error})") from error
        layers = [f"weights.{number}" for number in range(2, len(tensors) - len(cls.names) + 2)]
        if tensors.keys() != {*cls.names, *layers}:
            raise EdgeError(f"not a file of a learned entropy model: it has {', '.join(sorted(tensors)) or 'nothing'}")
        return cls(tensors["words"], tensors["bias"], tensors["shifts"], tuple(tensors[name] for name in layers))


def _checked(name: str, array: NDArray[np.generic], dtype: type, shape: Sequence[int | None]) -> tuple[int, ...]:
    """The shape of an array of this type and of these sizes, of which None is any above 0."""
    fits = array.ndim == len(shape) and all(
        size > 0 and size == (size if wanted is None else wanted)
        for size, wanted in zip(array.shape, shape, strict=False)
    )
    if array.dtype != dtype or not fits:
        raise EdgeError(f"{name} is {array.dtype} of shape {array.shape} in a learned entropy model")
    return array.shape
