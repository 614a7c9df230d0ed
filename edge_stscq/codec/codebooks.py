"""Switched token-specific codebooks `books[M, T, K, D]` (STSCQ, arXiv 2510.22943).

One of `M` groups is chosen for each image; in it every token position `t` has a codebook of its own. With
`token_specific=False` the positions of a group share one codebook (`T` is stored as 1), the paper's control.
"""

import torch
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
