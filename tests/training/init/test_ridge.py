"""Ridge regression."""

import torch

from edge_stscq.training.init.ridge import ridge_regression


def test_ridge_regression_finds_a_linear_map() -> None:
    x, weight, offset = torch.randn(5000, 5), torch.randn(5, 3), torch.randn(3)
    found_weight, found_offset = ridge_regression(x, x @ weight + offset, strength=1e-9)
    torch.testing.assert_close(found_weight, weight, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found_offset, offset, atol=1e-4, rtol=1e-4)


def test_ridge_regression_pulls_towards_the_mean() -> None:
    x = torch.randn(300, 4)
    y = x @ torch.randn(4, 2) + 3
    weight, offset = ridge_regression(x, y, strength=1e6)
    assert float(weight.abs().max()) < 1e-4
    torch.testing.assert_close(offset, y.mean(0), atol=1e-3, rtol=0)
