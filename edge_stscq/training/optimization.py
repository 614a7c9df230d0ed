"""Gradient steps, alike in every task: learning-rate schedule, gradients averaged over processes, clipping."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn


def lr_factor(step: int, steps: int, warmup: int = 100, floor: float = 0.02) -> float:
    """Learning-rate factor: linear warm-up, then half a cosine down to `floor`."""
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return floor + (1 - floor) * 0.5 * (1 + float(torch.cos(torch.tensor(done * torch.pi))))


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
