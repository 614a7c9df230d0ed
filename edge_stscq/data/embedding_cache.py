"""On-disk cache of embeddings by the digest of the picture.

The key of a vector is a digest of the picture it was computed from, so a cache is right for any set of pictures in any
order, and grows with them.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edge_stscq.codec.store import load_weights, save_weights


class EmbeddingCache:
    """Tensors of one shape by the digest of a picture, in one safetensors file.

    Args:
        path: read if it is there; written with its folder when something was added.

    Raises:
        EdgeError: the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[bytes, Tensor] = {}
        if path.exists():
            stored = load_weights(path)
            rows = zip(stored["digests"], stored["embeddings"], strict=True)
            self._known = {digest.numpy().tobytes(): vector for digest, vector in rows}

    def vectors(self, digests: Sequence[bytes], compute: Callable[[list[int]], Iterator[Tensor]]) -> Tensor:
        """The vectors of `digests`, stacked.

        Args:
            compute: gives the vectors of these indices of `digests` in their order; asked for those that are missing.

        Raises:
            EdgeError: the file cannot be written.
        """
        places = {digest: index for index, digest in enumerate(digests)}  # equal pictures once
        if missing := sorted(index for digest, index in places.items() if digest not in self._known):
            for index, vector in zip(missing, compute(missing), strict=True):
                self._known[digests[index]] = vector.clone()
            self._path.parent.mkdir(parents=True, exist_ok=True)
            save_weights(self._path, {
                "digests": torch.from_numpy(np.stack([np.frombuffer(key, np.uint8) for key in self._known])),
                "embeddings": torch.stack(list(self._known.values())),
            })  # fmt: skip
        return torch.stack([self._known[digest] for digest in digests])
