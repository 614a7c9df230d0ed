"""Matching in the compressed domain: identity is read from tokens, without decoding a picture."""

from pathlib import Path

import torch
from torch import Tensor, nn

from edge_stscq.bundle.model_folder import load_config
from edge_stscq.codec.codebooks import SwitchedCodebooks
from edge_stscq.codec.identity import IdentityHead
from edge_stscq.codec.store import load_books, load_weights


class Matcher(nn.Module):
    """Tokens -> unit vectors whose cosine tells whether two faces are one person's, from codebooks and projection."""

    is_identity: Tensor

    def __init__(self, codebooks: SwitchedCodebooks, identity: IdentityHead) -> None:
        super().__init__()
        self.config = identity.config
        self.codebooks = codebooks
        self.identity = identity
        self.register_buffer("is_identity", torch.tensor(self.config.is_identity), persistent=False)

    @classmethod
    def load(cls, folder: Path) -> "Matcher":
        """The matcher of a model folder.

        Raises:
            EdgeError: a file of the folder is missing or damaged.
        """
        config = load_config(folder)
        codebooks = SwitchedCodebooks(config.groups, config.tokens, config.entries, config.dim, config.token_specific)
        codebooks.books.copy_(load_books(folder))
        identity = IdentityHead(config)
        state = load_weights(Path(folder) / "student.safetensors")
        prefix = "head." if config.student_layers else "head.identity."
        identity.load_state_dict({name: state[prefix + name] for name in identity.state_dict()})
        return cls(codebooks, identity)

    @torch.no_grad()
    def forward(self, group: Tensor, tokens: Tensor, layers: int | None = None) -> Tensor:
        """Unit vectors [N, 128] of groups int [N] and tokens int [N, T or the prefix of `layers`]; None is all."""
        end = self.config.tokens if layers is None else self.config.layer_ends[layers - 1]
        words = self.codebooks.lookup(group, tokens[:, :end])
        return self.identity.deviation(words[:, self.is_identity[:end]])
