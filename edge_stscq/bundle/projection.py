"""Identity projection: how an embedding is read back from identity tokens, so that a device matches without torch.

A token stream says how an embedding differs from a mean, in the columns of an orthonormal matrix. What tells people
apart is how they differ from the center of faces as cameras see them, which is another point; `codec/identity.py` fits
all three.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from edge_stscq._files import write_file
from edge_stscq.config.codec import EMBEDDING, CodecConfig


@dataclass(frozen=True, eq=False)
class IdentityProjection:
    """Arrays of `projection.safetensors`, under these names.

    Attributes:
        projection: float32 `[128, T_id * D]`, from embeddings of mean square 1 to the vectors of all identity tokens
            side by side; a slot that holds no component is a column of zeros.
        mean: float32 `[128]`, subtracted from an embedding before it is projected.
        center: float32 `[128]`, mean of typical embeddings: what cosines are taken about.
    """

    projection: NDArray[np.float32]
    mean: NDArray[np.float32]
    center: NDArray[np.float32]

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]], config: CodecConfig) -> "IdentityProjection":
        """The projection from the content of its file.

        Raises:
            ValueError: it does not fit the model.
        """
        float32, mean = np.dtype(np.float32), (EMBEDDING,)
        shape = EMBEDDING, config.identity_tokens * config.dim
        expected = {"projection": (float32, shape), "mean": (float32, mean), "center": (float32, mean)}
        found = {name: (array.dtype, array.shape) for name, array in tensors.items()}
        if found != expected or not all(np.isfinite(array).all() for array in tensors.values()):
            raise ValueError(f"no finite float32 projection of shape {shape}, mean and center of {mean}")
        return cls(**tensors)

    def save(self, path: Path) -> None:
        """Write a safetensors file, in one step and with the same bytes every time."""
        arrays = {name: np.ascontiguousarray(array) for name, array in vars(self).items()}
        write_file(path, safetensors.numpy.save(arrays))
