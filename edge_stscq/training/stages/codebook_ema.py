"""Codebooks learned as moving averages of the vectors that chose their entries."""

import torch
import torch.distributed as dist
from torch import Tensor, nn

from edge_stscq.codec.codebooks import SwitchedCodebooks


class CodebookEMA(nn.Module):
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
    def replace_dead_entries(self, codebooks: SwitchedCodebooks, z: Tensor, group: Tensor, share: float = 0.02) -> int:
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
