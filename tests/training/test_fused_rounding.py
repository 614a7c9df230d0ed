"""Rounding by compiled kernels."""

import pytest
import torch

from edge_stscq.codec.integer.grid import GridConv
from edge_stscq.training import fused_rounding
from edge_stscq.training.fused_rounding import fuse_rounding


def _pass(layer: GridConv, x: torch.Tensor) -> list[torch.Tensor]:
    """Output of a layer in bfloat16 and its gradients for weights, biases and both steps."""
    layer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = layer(x, torch.tensor(-7.0))
    (y.float() * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
    return [y.detach(), *(p.grad.clone() for p in layer.parameters() if p.grad is not None)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch.compile itself
def test_fuse_rounding_changes_no_value_and_gradients_by_the_order_of_sums() -> None:
    torch.manual_seed(0)
    layer = GridConv(3, 8, 3)
    x = (torch.rand(4, 3, 16, 16) * 2 - 1).mul(128).round().div(128)
    plain = _pass(layer, x)
    if not fuse_rounding(layer):
        pytest.skip("no C++ compiler")
    fused = _pass(layer, x)
    assert torch.equal(plain[0], fused[0])
    assert len(plain) == 5
    for before, after in zip(plain, fused, strict=True):
        torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-4)


def test_fuse_rounding_without_a_compiler_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_rounding.shutil, "which", lambda _: None)
    fused_rounding._compiled.cache_clear()
    layer = GridConv(3, 8, 3)
    assert not fuse_rounding(layer)
    fused_rounding._compiled.cache_clear()
    y, _ = layer(torch.zeros(1, 3, 4, 4), torch.tensor(-7.0))
    assert y.shape == (1, 8, 4, 4)
