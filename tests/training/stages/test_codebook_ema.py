"""Codebooks learned as moving averages."""

import torch

from edge_stscq.codec.codebooks import SwitchedCodebooks
from edge_stscq.training.stages.codebook_ema import CodebookEMA


def test_update_moves_entries_to_the_mean_of_their_vectors() -> None:
    torch.manual_seed(0)
    books = SwitchedCodebooks(1, 2, 4, 3)
    averages = CodebookEMA(books, decay=0.9)
    centers = 3 * torch.randn(2, 4, 3)
    books.books.copy_(centers[None] + 0.5 * torch.randn(1, 2, 4, 3))
    averages.reset(books)
    group = torch.zeros(64, dtype=torch.long)
    for _ in range(80):
        tokens = torch.randint(0, 4, (64, 2))
        z = centers[torch.arange(2), tokens] + 0.01 * torch.randn(64, 2, 3)
        averages.update(books, z, group, tokens)
    torch.testing.assert_close(books.books[0], centers, atol=0.02, rtol=0)


def test_unused_group_stays_and_dead_entries_come_back() -> None:
    torch.manual_seed(0)
    books = SwitchedCodebooks(2, 2, 4, 3)
    averages = CodebookEMA(books, decay=0.5)
    before = books.books.clone()
    z, group = torch.randn(32, 2, 3), torch.zeros(32, dtype=torch.long)
    for _ in range(20):
        averages.update(books, z, group, torch.zeros(32, 2, dtype=torch.long))
    torch.testing.assert_close(books.books[1], before[1])
    moved = averages.replace_dead_entries(books, z, group)
    assert moved == 6  # three dead entries at both positions of the used group
    assert all(bool((z[:, t] == books.books[0, t, k]).all(-1).any()) for t in range(2) for k in range(1, 4))
