"""Identity embeddings of the originals, computed once and kept in a cache file.

The recognizer is frozen, so its embedding of a crop and of the mirrored crop never changes; training reads them here
instead of running the network on every picture of every step.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edge_stscq._reporter import Reporter, track
from edge_stscq.codec.encoder import normalize_image
from edge_stscq.codec.trunk import INPUT, IdentityTrunk
from edge_stscq.data.embedding_cache import EmbeddingCache
from edge_stscq.data.loader import FaceSet
from edge_stscq.training.loop import barrier, is_main

_BATCH = 32


def trunk_input(image: Tensor) -> Tensor:
    """Normalised uint8 crops [N, 128, 128, 3] cut to the trunk's input [N, 3, 112, 112]."""
    margin = (image.shape[1] - INPUT) // 2
    return normalize_image(image[:, margin : margin + INPUT, margin : margin + INPUT])


@torch.no_grad()
def cached_embeddings(
    faces: FaceSet, trunk: IdentityTrunk, cache: Path, reporter: Reporter, device: torch.device,
    chosen: Sequence[int] | None = None,
) -> Tensor:  # fmt: skip
    """Embeddings [N, 2, 128] of crops and their mirror images, reading and extending `cache`.

    Of several processes the first computes and writes; the others wait for it and read.

    Args:
        chosen: crops that are asked for; by default all.
    """
    numbers = range(len(faces)) if chosen is None else chosen

    def compute(missing: list[int]) -> Iterator[Tensor]:
        compiled = len(missing) > 1000
        network = torch.compile(trunk.to(device)) if compiled else trunk.to(device)
        for start in track(range(0, len(missing), _BATCH), "embeddings of the originals", reporter):
            part = missing[start : start + _BATCH]
            indices = (part * _BATCH)[:_BATCH] if compiled else part  # a fixed shape compiles once
            both = []
            for flip in (False, True):
                crops = torch.from_numpy(np.stack([faces.crop(numbers[i], flip) for i in indices])).to(device)
                both.append(network(trunk_input(crops)).float().cpu())
            yield from torch.stack(both, dim=1)[: len(part)]

    if not is_main():
        barrier()
    vectors = EmbeddingCache(cache).vectors([faces.made_of(index) for index in numbers], compute)
    if is_main():
        barrier()
    return vectors
