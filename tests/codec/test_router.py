import math

import pytest
import torch

from edge_stscq.codec.router import group_use, router_losses


def test_choosing_the_better_group_lowers_the_loss() -> None:
    errors = torch.tensor([[1.0, 3.0], [3.0, 1.0]])
    good = router_losses(torch.tensor([[5.0, -5.0], [-5.0, 5.0]]), errors)
    bad = router_losses(torch.tensor([[-5.0, 5.0], [5.0, -5.0]]), errors)
    assert good.quantization < 0 < bad.quantization
    assert good.quantization == pytest.approx(-0.5, abs=1e-3)


def test_entropy_is_least_when_all_groups_are_used_and_decision_when_choices_are_clear() -> None:
    errors = torch.ones(2, 2)
    clear = router_losses(torch.tensor([[9.0, -9.0], [-9.0, 9.0]]), errors)
    unsure = router_losses(torch.zeros(2, 2), errors)
    collapsed = router_losses(torch.tensor([[9.0, -9.0], [9.0, -9.0]]), errors)
    assert clear.entropy == pytest.approx(-math.log(2), abs=1e-4)
    assert collapsed.entropy > clear.entropy + 0.6
    assert clear.decision < 1e-3
    assert unsure.decision == pytest.approx(math.log(2), abs=1e-4)


def test_errors_are_not_differentiated() -> None:
    errors, logits = torch.rand(4, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    router_losses(logits, errors).quantization.backward()
    assert errors.grad is None
    assert logits.grad is not None


def test_group_use_counts_shares() -> None:
    assert group_use(torch.tensor([0, 0, 2, 0]), 3).tolist() == [0.75, 0.0, 0.25]
