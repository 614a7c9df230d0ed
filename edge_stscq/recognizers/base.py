"""Frozen face recognizer: crops to unit embeddings, and their cache."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from edge_stscq.codec.trunk import INPUT
from edge_stscq.config.codec import CROP
from edge_stscq.data.embedding_cache import EmbeddingCache


class Recognizer(nn.Module):
    """A frozen network: RGB float [N,3,112,112] in 0..255, ArcFace-aligned -> raw embedding [N,D]."""

    def __init__(self, name: str, layers: nn.Module) -> None:
        super().__init__()
        self.name = name
        self.layers = layers

    def forward(self, image: Tensor) -> Tensor:
        embedding: Tensor = self.layers((image - 127.5) / 128)
        return embedding

    @torch.no_grad()
    def embed(self, crops: NDArray[np.uint8] | Tensor, batch: int = 32) -> NDArray[np.float32]:
        """Unit embeddings float32 [N,D] of crops uint8 [N,128,128,3] RGB."""
        device = next(self.parameters()).device
        edge = (CROP - INPUT) // 2
        rows = []
        for part in torch.as_tensor(crops).split(batch):
            center = part[:, edge : edge + INPUT, edge : edge + INPUT].to(device)
            rows.append(functional.normalize(self(center.permute(0, 3, 1, 2).float())).cpu())
        return np.asarray(torch.cat(rows).numpy(), np.float32)


def embed_cached(net: Recognizer, crops: NDArray[np.uint8], folder: Path) -> NDArray[np.float32]:
    """As `net.embed`, reading and extending the vectors of this network that are kept in `folder`.

    Raises:
        EdgeError: the file there is damaged, or the folder cannot be written.
    """
    digests = [hashlib.sha1(crop.tobytes()).digest() for crop in crops]
    path = folder / f"{net.name}-{_digest(net)}.safetensors"

    def compute(missing: list[int]) -> Iterator[Tensor]:
        for part in (missing[start : start + 32] for start in range(0, len(missing), 32)):
            yield from torch.from_numpy(net.embed(crops[part]))

    return np.asarray(EmbeddingCache(path).vectors(digests, compute).numpy(), np.float32)


def _digest(net: nn.Module) -> str:
    """Short hash of a network's weights."""
    weights = b"".join(value.cpu().numpy().tobytes() for value in net.state_dict().values())
    return hashlib.sha256(weights).hexdigest()[:8]
