"""Distances between pictures and between identities.

PSNR is 10 log10(255^2 / MSE) over all pixels and channels. Two equal pictures have no error and so no finite PSNR; a
mean of per-picture values hides that, which is why `pooled_psnr` takes the mean of the squared error first. MS-SSIM
(Wang et al. 2003) uses a window of 7 pixels instead of 11, since a crop is too small for five scales of the larger one.
With a mask (`masked.py`) both are computed over what is picture. Total variation is the sum of steps between
neighbours: its ratio to the original's is above 1 where there is grain, and below where texture is lost. IDS (identity
similarity) is the cosine of two recogniser embeddings.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_msssim import ms_ssim as _ms_ssim
from pytorch_msssim.ssim import gaussian_filter
from torch import Tensor
from torch.nn import functional

from edge_stscq.evaluation.appearance.masked import Mask, mask_weights, only_picture

_WINDOW, _SIGMA = 7, 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the five scales, finest first (Wang et al. 2003, section 3.2)."""


def squared_error(first: NDArray[np.uint8], second: NDArray[np.uint8], mask: Mask | None = None) -> NDArray[np.float64]:
    """Mean squared error of each picture: uint8 [N,...] twice -> float64 [N], in squared grey levels (0..65025).

    Args:
        mask: what of pictures [N, S, S, 3] is compared, bool or float [N, S, S]; otherwise all of them.
    """
    if first.shape != second.shape:
        raise ValueError(f"pictures differ in shape: {first.shape} and {second.shape}")
    square = np.square(first.astype(np.float32) - second.astype(np.float32))
    if mask is None:
        return square.reshape(len(first), -1).mean(axis=1, dtype=np.float64)
    weights = mask_weights(mask, first)
    total = (square.mean(axis=3) * weights).sum(axis=(1, 2), dtype=np.float64)
    return np.asarray(total / weights.sum(axis=(1, 2), dtype=np.float64))


def ms_ssim(first: NDArray[np.uint8], second: NDArray[np.uint8], mask: Mask | None = None) -> NDArray[np.float64]:
    """Multi-scale structural similarity of pictures uint8 [N, S, S, 3] twice, S at least 112 -> [N], at most 1.

    Args:
        mask: what of `first` is picture, bool or float [N, S, S]. Outside it `second` is taken for equal, and the means
            of each scale are taken over the windows whose centre is picture. A scale without such a window counts as 1.
    """
    inside = only_picture(first, second, mask)
    a, b = (torch.from_numpy(np.ascontiguousarray(x)).permute(0, 3, 1, 2).float() for x in (first, inside))
    if mask is None:
        return np.asarray(_ms_ssim(a, b, data_range=255, win_size=_WINDOW, size_average=False).double().numpy())
    return _masked_ms_ssim(a, b, torch.from_numpy(mask_weights(mask, first))[:, None])


def _masked_ms_ssim(a: Tensor, b: Tensor, weights: Tensor) -> NDArray[np.float64]:
    """As pytorch-msssim computes it, with weighted means."""
    edge = _WINDOW // 2
    window = torch.exp(-(torch.arange(-edge, edge + 1).float() ** 2) / (2 * _SIGMA**2))
    window = (window / window.sum()).repeat(a.shape[1], 1, 1, 1)
    values = torch.ones(a.shape[:2], dtype=torch.float64)
    for index, exponent in enumerate(_EXPONENTS):
        if index:
            a, b, weights = (functional.avg_pool2d(x, 2) for x in (a, b, weights))
        ma, mb, aa, bb, ab = (gaussian_filter(x, window) for x in (a, b, a * a, b * b, a * b))
        alike = (2 * (ab - ma * mb) + _C2) / (aa - ma * ma + bb - mb * mb + _C2)
        if index == len(_EXPONENTS) - 1:
            alike = alike * (2 * ma * mb + _C1) / (ma * ma + mb * mb + _C1)
        center = weights[..., edge:-edge, edge:-edge]
        total = center.sum((2, 3))
        mean = ((alike * center).sum((2, 3)) / total.clamp(min=1e-12)).where(total > 0, torch.ones(()))
        values = values * mean.clamp(min=0).double() ** exponent
    return np.asarray(values.mean(1).numpy())


def total_variation(images: NDArray[np.uint8], mask: Mask | None = None) -> NDArray[np.float64]:
    """Sum of absolute steps between neighbouring pixels of pictures uint8 [N, S, S, 3] -> [N], in grey levels.

    Args:
        mask: bool or float [N, S, S]; a step counts as much as the lesser of its two pixels.
    """
    pixels = images.astype(np.float32)
    weights = None if mask is None else mask_weights(mask, images)
    total = np.zeros(len(images))
    for axis in (1, 2):
        steps = np.abs(np.diff(pixels, axis=axis)).sum(axis=3)
        if weights is not None:
            steps *= np.minimum(np.delete(weights, 0, axis), np.delete(weights, -1, axis))
        total += steps.sum(axis=(1, 2), dtype=np.float64)
    return total


def psnr(error: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean squared errors -> decibels; infinite where there is no error."""
    with np.errstate(divide="ignore"):
        return np.asarray(10 * np.log10(255.0**2 / error))


def pooled_psnr(error: NDArray[np.float64]) -> float | None:
    """PSNR of the mean of the squared errors [N] in decibels; None when every picture is equal."""
    mean = float(np.mean(error))
    return None if mean == 0 else float(10 * np.log10(255.0**2 / mean))


def cosine(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """Row-wise cosine of two sets of embeddings [N,D] -> [N], in -1..1. A zero vector is similar to nothing (0)."""
    scale = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.asarray(np.einsum("nd,nd->n", first, second) / np.maximum(scale, 1e-12), np.float32)
