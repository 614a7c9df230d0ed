"""Optimizer whose rates are relative to each channel."""

import torch
from torch import nn

from edge_stscq.training.optimization import RelativeAdamW


def test_relative_rate_moves_channels_alike() -> None:
    weight = nn.Parameter(torch.tensor([[1000.0, -1000.0], [0.001, 0.001]]))
    before = weight.detach().clone()
    optimizer = RelativeAdamW([{"params": [weight], "weight_decay": 0.0}], lr=0.01)
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    moved = (weight - before).abs().mean(1)
    torch.testing.assert_close(moved, torch.tensor([10.0, 1e-5]), rtol=1e-3, atol=0)


def test_absolute_group_moves_by_the_rate() -> None:
    exponent = nn.Parameter(torch.tensor([-7.0]))
    optimizer = RelativeAdamW([{"params": [exponent], "weight_decay": 0.0, "relative": False}], lr=0.01)
    exponent.grad = torch.ones_like(exponent)
    optimizer.step()
    torch.testing.assert_close(exponent.detach(), torch.tensor([-7.01]))
