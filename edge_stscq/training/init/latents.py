"""Latents of a training set: what an encoder makes of its crops, and how often each token is chosen."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from edge_stscq._reporter import Reporter, track
from edge_stscq.codec.decoder import SKETCH
from edge_stscq.codec.encoder import EdgeEncoder, normalize_image
from edge_stscq.data.loader import FaceSet
from edge_stscq.training.init.kmeans import nearest

_BATCH = 32


def iterate_crops(
    faces: FaceSet, count: int, reporter: Reporter, title: str, device: torch.device
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Batches of `count` evenly spread crops, every second one mirrored.

    Yields indices int64 [N], mirrored int64 [N] (0 or 1), normalised pictures [N, 3, 128, 128].
    """
    indices = np.linspace(0, len(faces) - 1, min(count, len(faces))).astype(np.int64)
    for start in track(range(0, len(indices), _BATCH), title, reporter):
        chunk = indices[start : start + _BATCH]
        flips = np.arange(start, start + len(chunk)) % 2
        crops = np.stack([faces.crop(int(i), bool(f)) for i, f in zip(chunk, flips, strict=True)])
        image = normalize_image(torch.from_numpy(crops).to(device)).contiguous(memory_format=torch.channels_last)
        yield torch.from_numpy(chunk), torch.from_numpy(flips), image


class Latents(NamedTuple):
    """Token vectors, groups and small pictures of n crops."""

    z: Tensor
    """Token vectors [n, T, D]."""
    group: Tensor
    """int64 [n]"""
    pictures: Tensor
    """The crops as the decoder sketches them, [n, 3, 32, 32]."""


@torch.no_grad()
def latents(
    encoder: EdgeEncoder, faces: FaceSet, embeddings: Tensor, count: int, reporter: Reporter, device: torch.device
) -> Latents:
    """Token vectors of `count` crops, with identity from the cached embeddings [N, 2, 128] of the originals."""
    encoder.eval()
    vectors, groups, pictures = [], [], []
    for index, flip, image in iterate_crops(faces, count, reporter, "latents", device):
        z = encoder.head(embeddings[index, flip].to(device), encoder.backbone.spatial(image), image)
        groups.append(encoder.choose(z, encoder.router(z)).cpu())
        vectors.append(z.cpu())
        pictures.append(functional.interpolate(image, size=SKETCH, mode="area").cpu())
    return Latents(torch.cat(vectors), torch.cat(groups).long(), torch.cat(pictures))


def token_counts(books: Tensor, z: Tensor, group: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Count how often each entry [M, T, K] and each group [M] is chosen, as float64 arrays."""
    groups, tokens, entries, _ = books.shape
    counts = torch.zeros(groups, tokens, entries)
    for m in range(groups):
        members = z[group == m]
        if len(members):
            chosen, _ = nearest(books[m], members)
            counts[m].scatter_add_(1, chosen.t().contiguous(), torch.ones(tokens, len(members)))
    return counts.double().numpy(), torch.bincount(group, minlength=groups).double().numpy()
