"""Gradient steps, alike in every task: learning-rate schedule, gradients averaged over processes, clipping."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def lr_factor(step: int, steps: int, warmup: int = 100, floor: float = 0.02) -> float:
    """Learning-rate factor: linear warm-up, then half a cosine down to `floor`."""
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return floor + (1 - floor) * 0.5 * (1 + float(torch.cos(torch.tensor(done * torch.pi))))


class RelativeAdamW(torch.optim.AdamW):
    """AdamW whose rates are shares of each output channel's weights.

    Weights that are folded with normalization and taken over from another network differ by factors of a thousand
    between layers and channels: a rate that moves one at all destroys another (You et al. 2017, arXiv 1708.03888).
    Groups with `relative` set to False keep absolute rates.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float) -> None:
        super().__init__(groups, lr=lr)
        chosen = (group["params"] for group in self.param_groups if group.get("relative", True))
        self._sizes = {parameter: _typical_size(parameter) for part in chosen for parameter in part}

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        before = [parameter.clone() for parameter in self._sizes]
        super().step(closure)
        for (parameter, size), old in zip(self._sizes.items(), before, strict=True):
            parameter.sub_(old).mul_(size).add_(old)


@torch.no_grad()
def _typical_size(parameter: Tensor) -> Tensor:
    """Magnitude that changes of a parameter are measured in: of each output channel's weights, or of all biases."""
    if parameter.dim() == 1:
        return parameter.abs().median().clamp_min(1e-3)
    return parameter.square().mean(tuple(range(1, parameter.dim())), keepdim=True).sqrt().clamp_min(1e-6)


def gradient_step(
    loss: Tensor, optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter], clip: float = torch.inf
) -> Tensor:
    """Make one step down a loss; returns the norm of the gradient before it was clipped to `clip`."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    _all_reduce_gradients(parameters)
    norm = nn.utils.clip_grad_norm_(parameters, clip)
    optimizer.step()
    return norm


def _all_reduce_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Average gradients over all processes in one message."""
    if not dist.is_initialized():
        return
    filled = [p for p in parameters if p.grad is not None]
    flat = torch.cat([p.grad.flatten() for p in filled if p.grad is not None])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for parameter, part in zip(filled, flat.split([p.numel() for p in filled]), strict=True):
        parameter.grad = part.view_as(parameter)
