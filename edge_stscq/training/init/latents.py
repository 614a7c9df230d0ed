"""Latents of a training set, and codebooks fitted to them by k-means.

One pass of the encoder gives every position's vectors; Lloyd's algorithm then places the entries of each group's and
position's codebook. It initialises token-specific codebooks (stage 2) and settles them when the encoder is frozen.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor
from torch.nn import functional

from edge_stscq.codec.decoder import SKETCH
from edge_stscq.codec.encoder import EdgeEncoder, normalise_image
from edge_stscq.data.loader import FaceSet

_CHUNK = 256


def iterate_crops(
    faces: FaceSet, count: int, progress: Progress, title: str, device: torch.device
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Batches of `count` evenly spread crops, every second one mirrored.

    Yields indices int64 [N], mirrored int64 [N] (0 or 1), normalised pictures [N, 3, 128, 128].
    """
    indices = np.linspace(0, len(faces) - 1, min(count, len(faces))).astype(np.int64)
    for start in progress.track(range(0, len(indices), 32), description=title):
        chunk = indices[start : start + 32]
        flips = np.arange(start, start + len(chunk)) % 2
        crops = np.stack([faces.crop(int(i), bool(f)) for i, f in zip(chunk, flips, strict=True)])
        image = normalise_image(torch.from_numpy(crops).to(device)).contiguous(memory_format=torch.channels_last)
        yield torch.from_numpy(chunk), torch.from_numpy(flips), image


class Latents(NamedTuple):
    """What an encoder makes of n crops."""

    z: Tensor
    """Token vectors [n, T, D]."""
    group: Tensor
    """int64 [n]"""
    pictures: Tensor
    """The crops as the decoder sketches them, [n, 3, 32, 32]."""


@torch.no_grad()
def latents(
    encoder: EdgeEncoder, faces: FaceSet, embeddings: Tensor, count: int, progress: Progress, device: torch.device
) -> Latents:
    """Token vectors of `count` crops, with identity from the cached embeddings [N, 2, 128] of the originals."""
    encoder.eval()
    vectors, groups, pictures = [], [], []
    for index, flip, image in iterate_crops(faces, count, progress, "latents", device):
        z = encoder.head(embeddings[index, flip].to(device), encoder.backbone.spatial(image), image)
        groups.append(encoder.choose(z, encoder.router(z)).cpu())
        vectors.append(z.cpu())
        pictures.append(functional.interpolate(image, size=SKETCH, mode="area").cpu())
    return Latents(torch.cat(vectors), torch.cat(groups).long(), torch.cat(pictures))


def nearest(books: Tensor, z: Tensor) -> Tensor:
    """Nearest entries int64 [n, T] of z [n, T, D] in one group's codebooks [T, K, D]."""
    energy = books.square().sum(-1)
    return torch.cat([
        (energy - 2 * torch.einsum("ntd,tkd->ntk", part, books)).argmin(-1) for part in z.split(_CHUNK)
    ])  # fmt: skip


def lloyd(books: Tensor, z: Tensor, iterations: int, generator: torch.Generator) -> Tensor:
    """Codebooks [T, K, D] of one group after `iterations` of k-means on z [n, T, D]; empty entries are re-seeded."""
    tokens, entries, dim = books.shape
    offsets = torch.arange(tokens) * entries
    for _ in range(iterations):
        flat = (nearest(books, z) + offsets).flatten()
        counts = torch.bincount(flat, minlength=tokens * entries).float()
        sums = torch.zeros(tokens * entries, dim).index_add_(0, flat, z.flatten(0, 1))
        books = torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], 0).view(tokens, entries, dim)
        for t, k in (counts.view(tokens, entries) == 0).nonzero().tolist():
            books[t, k] = z[int(torch.randint(len(z), (), generator=generator)), t]
    return books


def fit_codebooks(
    start: Tensor | None, z: Tensor, group: Tensor, groups: int, entries: int, iterations: int, seed: int
) -> Tensor:
    """Token-specific codebooks [M, T, K, D] for latents z [n, T, D] in groups [n].

    Args:
        start: codebooks to improve, or None to begin from random latents of each group.
    """
    generator = torch.Generator().manual_seed(seed)
    fitted = []
    for m in range(groups):
        members = z[group == m]
        if len(members) < entries:  # a group that hardly any face uses is fitted to all of them
            members = z
        if start is None:
            picks = torch.randperm(len(members), generator=generator)[:entries]
            if len(picks) < entries:
                picks = torch.randint(len(members), (entries,), generator=generator)
            books = members[picks].transpose(0, 1).clone()
            books += 1e-3 * torch.randn(books.shape, generator=generator)
        else:
            books = start[m].expand(z.shape[1], -1, -1).clone()
        fitted.append(lloyd(books, members, iterations, generator))
    return torch.stack(fitted)


def refit_codebooks(books: Tensor, positions: Tensor, z: Tensor, iterations: int, seed: int) -> Tensor:
    """Codebooks [M, T, K, D] whose entries at `positions` went on with k-means, in every group, on all z [n, P, D]."""
    generator = torch.Generator().manual_seed(seed)
    books = books.clone()
    for group in books:
        group[positions] = lloyd(group[positions], z, iterations, generator)
    return books


def token_counts(books: Tensor, z: Tensor, group: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """How often each entry [M, T, K] and each group [M] is chosen, as float64 arrays."""
    groups, tokens, entries, _ = books.shape
    counts = torch.zeros(groups, tokens, entries)
    for m in range(groups):
        members = z[group == m]
        if len(members):
            chosen = nearest(books[m], members)
            counts[m].scatter_add_(1, chosen.t().contiguous(), torch.ones(tokens, len(members)))
    return counts.double().numpy(), torch.bincount(group, minlength=groups).double().numpy()
