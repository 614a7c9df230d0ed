"""Codebooks by k-means: nearest entries, Lloyd's algorithm, and token-specific codebooks of given groups."""

import torch
from torch import Tensor

_ROWS = 512
_START_NOISE = 1e-3
"""Standard deviation by which entries begin beside the vectors that they are."""


def nearest(books: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest entries int64 [n, T] of z [n, T, D] in codebooks [T, K, D], and the squared distances [n, T]."""
    energy = books.square().sum(-1)
    found, distance = [], []
    for part in z.split(_ROWS):
        scores = energy - 2 * torch.matmul(part.transpose(0, 1), books.transpose(1, 2)).transpose(0, 1)
        least, index = scores.min(-1)
        found.append(index)
        distance.append(least + part.square().sum(-1))
    return torch.cat(found), torch.cat(distance)


def random_entries(z: Tensor, entries: int, generator: torch.Generator) -> Tensor:
    """Codebooks [T, K, D] of random vectors of z [n, T, D]; different ones where there are enough."""
    picks = torch.randperm(len(z), generator=generator)[:entries]
    if len(picks) < entries:
        picks = torch.randint(len(z), (entries,), generator=generator)
    return z[picks].transpose(0, 1).clone()


def lloyd(
    books: Tensor, z: Tensor, iterations: int, generator: torch.Generator, weight: Tensor | None = None
) -> Tensor:
    """Codebooks [T, K, D] after `iterations` of k-means on z [n, T, D]; empty entries are re-seeded.

    Args:
        weight: how much each vector counts, [n, T].
    """
    tokens, entries, dim = books.shape
    offsets = torch.arange(tokens) * entries
    mass = torch.ones(len(z), tokens) if weight is None else weight
    for _ in range(iterations):
        flat = (nearest(books, z)[0] + offsets).flatten()
        total = torch.zeros(tokens * entries).index_add_(0, flat, mass.flatten())
        sums = torch.zeros(tokens * entries, dim).index_add_(0, flat, (z * mass[..., None]).flatten(0, 1))
        books = (sums / total.clamp_min(1e-9)[:, None]).view(tokens, entries, dim)
        for t, k in (total.view(tokens, entries) == 0).nonzero().tolist():
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
            books = random_entries(members, entries, generator)
            books += _START_NOISE * torch.randn(books.shape, generator=generator)
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
