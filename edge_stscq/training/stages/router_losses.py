"""Losses by which the router learns to choose a codebook group."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class RouterLosses:
    """Terms of the router's loss, each a scalar."""

    quantization: Tensor
    entropy: Tensor
    decision: Tensor


def router_losses(logits: Tensor, group_errors: Tensor) -> RouterLosses:
    """Losses of group logits [N, M] given each group's quantisation error [N, M] (not differentiated).

    The router's loss is `L_qua + l1 L_ent + l2 L_dec`. The paper names the terms and their purpose; the formulas are
    our reading of them, since the equations are not public where we looked.

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


def group_usage(groups: Tensor, count: int) -> Tensor:
    """Share of images [M] that chose each group."""
    return torch.bincount(groups.flatten(), minlength=count).float() / groups.numel()
