"""Switched token-specific codebooks `books[M, T, K, D]` (STSCQ, arXiv 2510.22943).

One of `M` groups is chosen for each image; in it every token position `t` has a codebook of its own. With
`token_specific=False` the positions of a group share one codebook (`T` is stored as 1), the paper's control.
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn


class SwitchedCodebooks(nn.Module):
    """The codebooks and the nearest-entry search. All searches run in float32."""

    books: Tensor

    def __init__(self, groups: int, tokens: int, entries: int, dim: int, token_specific: bool = True) -> None:
        super().__init__()
        self.tokens = tokens
        self.register_buffer("books", torch.randn(groups, tokens if token_specific else 1, entries, dim))

    def nearness(self, z: Tensor, group: Tensor) -> Tensor:
        """Squared distances less ||z||^2, which the search does not need: z [N, T, D], group int [N] -> [N, T, K]."""
        product = torch.matmul(self.books.index_select(0, group), z.float().unsqueeze(-1)).squeeze(-1)
        return self.books.square().sum(-1).index_select(0, group) - 2 * product

    def distances(self, z: Tensor, group: Tensor) -> Tensor:
        """Squared distances of token vectors z [N, T, D] to every entry of their codebooks: [N, T, K]."""
        return self.nearness(z, group) + z.float().square().sum(-1, keepdim=True)

    def group_errors(self, z: Tensor) -> Tensor:
        """Mean squared quantisation error of z [N, T, D] under each group: [N, M]."""
        errors = [
            self.distances(z, torch.full((len(z),), m, dtype=torch.long, device=z.device)).amin(-1).mean(-1)
            for m in range(len(self.books))
        ]
        return torch.stack(errors, dim=1) / z.shape[-1]

    def lookup(self, group: Tensor, tokens: Tensor) -> Tensor:
        """Codewords of tokens [N, t], t <= T, in groups [N]: [N, t, D]."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        if self.books.shape[1] == 1:
            positions = torch.zeros_like(positions)
        return self.books[group.long()[:, None], positions[None, :], tokens.long()]


class CodebookAverages(nn.Module):
    """Exponential moving averages that train the codebooks (van den Oord et al. 2017, appendix A.1).

    An entry is the running mean of the vectors that chose it. Entries that are hardly used are re-seeded with vectors
    of the batch. Counts and sums are added up over all processes, so that every replica keeps the same codebooks.
    """

    counts: Tensor
    sums: Tensor

    def __init__(self, codebooks: SwitchedCodebooks, decay: float = 0.99) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("counts", torch.ones(codebooks.books.shape[:3]))
        self.register_buffer("sums", codebooks.books.clone())

    def reset(self, codebooks: SwitchedCodebooks, weight: float = 1.0) -> None:
        """Start again from the present codebooks, each entry counting as `weight` vectors."""
        self.counts = torch.full(codebooks.books.shape[:3], weight, device=codebooks.books.device)
        self.sums = codebooks.books * weight

    @torch.no_grad()
    def update(self, codebooks: SwitchedCodebooks, z: Tensor, group: Tensor, tokens: Tensor) -> None:
        """Take in one batch: z [N, T, D], group [N], tokens [N, T]."""
        groups, positions, entries, dim = codebooks.books.shape
        position = torch.arange(tokens.shape[1], device=z.device) % positions
        flat = ((group[:, None] * positions + position) * entries + tokens).flatten()
        counts = torch.zeros(groups * positions * entries, device=z.device)
        counts.index_add_(0, flat, torch.ones_like(flat, dtype=torch.float32))
        sums = torch.zeros(len(counts), dim, device=z.device).index_add_(0, flat, z.float().flatten(0, 1))
        if dist.is_initialized():
            dist.all_reduce(counts)
            dist.all_reduce(sums)
        counts, sums = counts.view_as(self.counts), sums.view_as(self.sums)
        # Only the codebooks that saw data decay: a rare group keeps what it knows.
        seen = counts.sum(-1, keepdim=True) > 0
        decay = torch.where(seen, self.decay, 1.0)
        self.counts = self.counts * decay + counts * (1 - decay)
        self.sums = self.sums * decay[..., None] + sums * (1 - decay)[..., None]
        codebooks.books.copy_(self.sums / self.counts.clamp_min(1e-4)[..., None])

    @torch.no_grad()
    def reseed(self, codebooks: SwitchedCodebooks, z: Tensor, group: Tensor, share: float = 0.02) -> int:
        """Move entries used less than `share` of the mean to random vectors of the batch; returns how many moved."""
        if dist.is_initialized():  # one process's batch decides for all
            z, group = z.contiguous(), group.contiguous()
            dist.broadcast(z, 0)
            dist.broadcast(group, 0)
        positions = codebooks.books.shape[1]
        mean = self.counts.mean(-1, keepdim=True)
        dead = (self.counts < share * mean).nonzero()
        moved = 0
        for m, t, k in dead.tolist():
            members = (group == m).nonzero().flatten()
            if len(members) == 0:
                continue
            pick = members[(k * 7919 + t) % len(members)]
            vector = z[pick, t if positions > 1 else (k * 104729) % z.shape[1]].float()
            codebooks.books[m, t, k] = vector
            self.counts[m, t, k] = mean[m, t, 0]
            self.sums[m, t, k] = vector * mean[m, t, 0]
            moved += 1
        return moved
