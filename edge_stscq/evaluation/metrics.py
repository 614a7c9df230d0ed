"""Distances between pictures and between identities.

PSNR is 10 log10(255^2 / MSE) over all pixels and channels. Two equal pictures have no error and so no finite PSNR; a
mean of per-picture values hides that, which is why `pooled_psnr` takes the mean of the squared error first. MS-SSIM
(Wang et al. 2003) uses a window of 7 pixels instead of 11, since a crop is too small for five scales of the larger one.
IDS (identity similarity) is the cosine of two recogniser embeddings.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_msssim import ms_ssim as _ms_ssim


def squared_error(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean squared error of each picture: uint8 [N,...] twice -> float64 [N], in squared grey levels (0..65025)."""
    if first.shape != second.shape:
        raise ValueError(f"pictures differ in shape: {first.shape} and {second.shape}")
    difference = first.astype(np.float32) - second.astype(np.float32)
    return np.square(difference).reshape(len(first), -1).mean(axis=1, dtype=np.float64)


def ms_ssim(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Multi-scale structural similarity of pictures uint8 [N, S, S, 3] twice, S at least 112 -> [N], at most 1."""
    a, b = (torch.from_numpy(np.ascontiguousarray(x)).permute(0, 3, 1, 2).float() for x in (first, second))
    return np.asarray(_ms_ssim(a, b, data_range=255, win_size=7, size_average=False).double().numpy())


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
