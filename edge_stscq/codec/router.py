"""The router chooses the codebook group of an image, without labels (STSCQ, section on switchable codebooks).

Its loss is `L_qua + l1 L_ent + l2 L_dec`. The paper names the terms and their purpose; the formulas below are our
reading of them ("-style"), since the equations are not public where we looked.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


class Router(nn.Module):
    """Group logits from all token vectors of an image: z [N, T, D] -> [N, M]."""

    def __init__(self, tokens: int, dim: int, groups: int, hidden: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(tokens * dim, hidden), nn.ReLU(), nn.Linear(hidden, groups))

    def forward(self, z: Tensor) -> Tensor:
        logits: Tensor = self.layers(z.flatten(1))
        return logits


@dataclass(frozen=True)
class RouterLosses:
    """The three terms, each a scalar."""

    quantization: Tensor
    entropy: Tensor
    decision: Tensor


def router_losses(logits: Tensor, group_errors: Tensor) -> RouterLosses:
    """Losses of group logits [N, M] given each group's quantisation error [N, M] (not differentiated).

    - quantization: expected error relative to the image's mean over groups; negative when the choice beats the mean.
    - entropy: minus the entropy of the batch-mean choice in nats, so that all groups are used.
    - decision: mean entropy of the single choices in nats, so that each choice is clear.
    """
    probabilities = logits.float().softmax(-1)
    errors = group_errors.detach()
    relative = errors / errors.mean(1, keepdim=True).clamp_min(1e-9) - 1
    mean = probabilities.mean(0)
    return RouterLosses(
        quantization=(probabilities * relative).sum(1).mean(),
        entropy=(mean * mean.clamp_min(1e-9).log()).sum(),
        decision=-(probabilities * probabilities.clamp_min(1e-9).log()).sum(1).mean(),
    )


def group_use(groups: Tensor, count: int) -> Tensor:
    """Share of images [M] that chose each group."""
    return torch.bincount(groups.flatten(), minlength=count).float() / groups.numel()
