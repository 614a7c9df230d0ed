"""Matching in the compressed domain: identity is read from tokens, without decoding a picture."""

from pathlib import Path

import torch
from torch import Tensor, nn

from edge_stscq.codec.codebooks import SwitchedCodebooks
from edge_stscq.codec.identity import IdentityHead
from edge_stscq.codec.store import load_books, load_config, load_weights


class Matcher(nn.Module):
    """Tokens -> unit embeddings. It needs the codebooks and the identity projection only."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.config = load_config(folder)
        c = self.config
        self.codebooks = SwitchedCodebooks(c.groups, c.tokens, c.entries, c.dim, c.token_specific)
        self.codebooks.books.copy_(load_books(folder))
        self.identity = IdentityHead(c)
        state = load_weights(Path(folder) / "student.safetensors")
        prefix = "head.identity."
        self.identity.load_state_dict({k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)})
        kinds = [kind for layer in c.layers for kind in [True] * layer.identity + [False] * layer.spatial]
        self.register_buffer("is_identity", torch.tensor(kinds), persistent=False)

    is_identity: Tensor

    @torch.no_grad()
    def forward(self, group: Tensor, tokens: Tensor, layers: int = 3) -> Tensor:
        """Unit embeddings [N, 128] of groups int [N] and tokens int [N, T or the prefix of `layers`]."""
        end = self.config.layer_ends[layers - 1]
        words = self.codebooks.lookup(group, tokens[:, :end])
        return self.identity.embedding(words[:, self.is_identity[:end]])
