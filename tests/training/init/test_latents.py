"""Tokens counted on latents."""

import torch

from edge_stscq.training.init.kmeans import nearest
from edge_stscq.training.init.latents import token_counts


def test_token_counts_add_up() -> None:
    z, group = torch.randn(50, 4, 3), torch.arange(50) % 2
    books = torch.randn(2, 4, 8, 3)
    counts, groups = token_counts(books, z, group)
    assert counts.sum() == 200
    assert groups.tolist() == [25, 25]
    assert counts[1, 0].tolist() == torch.bincount(nearest(books[1], z[group == 1])[0][:, 0], minlength=8).tolist()
