"""Identity embeddings of the originals, computed once and kept in a cache file.

The recogniser is frozen, so its embedding of a crop and of the mirrored crop never changes; training reads them here
instead of running the network on every picture of every step. The key of an entry is the picture's content.
"""

from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor

from edge_stscq.codec.encoder import normalise_image
from edge_stscq.codec.store import load_weights, save_weights
from edge_stscq.codec.trunk import INPUT, IdentityTrunk
from edge_stscq.training.data import FaceSet

_BATCH = 32


def centre(image: Tensor) -> Tensor:
    """Normalised uint8 crops [N, 128, 128, 3] cut to the trunk's input [N, 3, 112, 112]."""
    margin = (image.shape[1] - INPUT) // 2
    return normalise_image(image[:, margin : margin + INPUT, margin : margin + INPUT])


@torch.no_grad()
def cached_embeddings(
    faces: FaceSet, trunk: IdentityTrunk, cache: Path, progress: Progress, device: torch.device
) -> Tensor:
    """Embeddings [N, 2, 128] of every crop and its mirror image, reading and extending `cache`."""
    known: dict[bytes, Tensor] = {}
    if cache.exists():
        stored = load_weights(cache)
        known = {bytes(key.numpy()): value for key, value in zip(stored["digests"], stored["embeddings"], strict=True)}
    digests = faces.digests()
    keys = [digest.tobytes() for digest in digests]
    missing = [index for index, key in enumerate(keys) if key not in known]
    if missing:
        network = torch.compile(trunk.to(device)) if len(missing) > 1000 else trunk.to(device)
        for start in progress.track(range(0, len(missing), _BATCH), description="embeddings of the originals"):
            indices = (missing[start : start + _BATCH] * _BATCH)[:_BATCH]  # a fixed shape compiles once
            both = []
            for flip in (False, True):
                crops = torch.from_numpy(np.stack([faces.crop(i, flip) for i in indices])).to(device)
                both.append(network(centre(crops)).float().cpu())
            for index, vector in zip(indices, torch.stack(both, dim=1), strict=True):
                known[keys[index]] = vector.clone()
        cache.parent.mkdir(parents=True, exist_ok=True)
        save_weights(cache, {
            "digests": torch.from_numpy(np.stack([np.frombuffer(key, np.uint8) for key in known])),
            "embeddings": torch.stack(list(known.values())),
        })  # fmt: skip
    return torch.stack([known[key] for key in keys])
