"""Losses of the router."""

import math

import pytest
import torch

from edge_stscq.training.stages.router_losses import group_usage, router_losses


def test_router_losses_fall_with_the_better_group() -> None:
    errors = torch.tensor([[1.0, 3.0], [3.0, 1.0]])
    good = router_losses(torch.tensor([[5.0, -5.0], [-5.0, 5.0]]), errors)
    bad = router_losses(torch.tensor([[-5.0, 5.0], [5.0, -5.0]]), errors)
    assert good.quantization < 0 < bad.quantization
    assert good.quantization == pytest.approx(-0.5, abs=1e-3)


def test_router_losses_favour_even_use_and_clear_choices() -> None:
    errors = torch.ones(2, 2)
    clear = router_losses(torch.tensor([[9.0, -9.0], [-9.0, 9.0]]), errors)
    unsure = router_losses(torch.zeros(2, 2), errors)
    collapsed = router_losses(torch.tensor([[9.0, -9.0], [9.0, -9.0]]), errors)
    assert clear.entropy == pytest.approx(-math.log(2), abs=1e-4)
    assert collapsed.entropy > clear.entropy + 0.6
    assert clear.decision < 1e-3
    assert unsure.decision == pytest.approx(math.log(2), abs=1e-4)


def test_router_losses_do_not_differentiate_errors() -> None:
    errors, logits = torch.rand(4, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    router_losses(logits, errors).quantization.backward()
    assert errors.grad is None
    assert logits.grad is not None


def test_group_usage_counts_shares() -> None:
    assert group_usage(torch.tensor([0, 0, 2, 0]), 3).tolist() == [0.75, 0.0, 0.25]
