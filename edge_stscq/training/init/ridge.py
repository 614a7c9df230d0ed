"""Ridge regression, summed in double precision."""

import torch
from torch import Tensor

_ROWS = 4096
"""Rows that are held in double precision at once."""


def ridge_regression(x: Tensor, y: Tensor, strength: float = 1e-3) -> tuple[Tensor, Tensor]:
    """Weight [A, B] and offset [B] of the regression of y [n, B] on x [n, A].

    Args:
        strength: penalty relative to the mean variance of x.
    """
    mean, target = x.mean(0, dtype=torch.double), y.mean(0, dtype=torch.double)
    covariance = torch.zeros(x.shape[1], x.shape[1], dtype=torch.double)
    product = torch.zeros(x.shape[1], y.shape[1], dtype=torch.double)
    for rows, wanted in zip(x.split(_ROWS), y.split(_ROWS), strict=True):
        centered = rows.double() - mean
        covariance += centered.t() @ centered
        product += centered.t() @ (wanted.double() - target)
    penalty = strength * covariance.diagonal().mean().clamp_min(1e-12 * len(x))
    weight = torch.linalg.solve(covariance + penalty * torch.eye(len(covariance), dtype=torch.double), product)
    return weight.float(), (target - mean @ weight).float()
