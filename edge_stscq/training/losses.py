"""The hybrid semantic metric (after LFIC, arXiv 1812.10067): pixels, perceptual features, identity, adversarial.

Pixels are compared by L1. Perceptual features and identity come from one pass of the frozen recogniser: its early
feature maps say what the face looks like, its embedding says who it is. The adversarial term is least-squares
(LSGAN, Mao et al. 2017) on patches.
"""

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_stscq.codec.config import CROP
from edge_stscq.codec.trunk import INPUT, IdentityTrunk, fold

_Network = TypeVar("_Network", bound=nn.Module)


def channels_last(network: _Network) -> _Network:
    """Lay the weights of convolutions out as their kernels read them; in place."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


_TAPS = (15, 21, 27)
"""Layers of the trunk after whose activation features are compared: 56, 56 and 28 px."""


@dataclass(frozen=True)
class Semantics:
    """What the recogniser sees in N pictures."""

    features: list[Tensor]
    embedding: Tensor
    """Unit vectors [N, 128]."""


class Recogniser(nn.Module):
    """The frozen trunk as a differentiable metric on pictures [N, 3, S, S] in about -1..1, S at most 128."""

    def __init__(self, trunk: IdentityTrunk) -> None:
        super().__init__()
        self.trunk = fold(trunk)
        channels_last(self.trunk)

    def forward(self, picture: Tensor, shift: tuple[int, int] = (0, 0)) -> Semantics:
        """What the trunk sees when it looks `shift` pixels (of 128, down and right, at most 8) beside the centre."""
        picture = _centre(picture, shift)
        taps = self.trunk.taps(picture, _TAPS)
        embedding = self.trunk.finish(taps[-1], _TAPS[-1])
        return Semantics(taps, functional.normalize(embedding))

    def features(self, picture: Tensor, shift: tuple[int, int] = (0, 0)) -> list[Tensor]:
        """The feature maps alone, at a fraction of the cost."""
        return self.trunk.taps(_centre(picture, shift), _TAPS)


def _centre(picture: Tensor, shift: tuple[int, int]) -> Tensor:
    """The trunk's 112-px input of pictures [N, 3, S, S]."""
    if picture.shape[-1] != CROP:
        picture = functional.interpolate(picture, size=(CROP, CROP), mode="bilinear", align_corners=False)
    top, left = ((CROP - INPUT) // 2 + pixels for pixels in shift)
    return picture[..., top : top + INPUT, left : left + INPUT]


def perceptual(ours: list[Tensor], theirs: list[Tensor]) -> Tensor:
    """Mean over taps of the L1 distance, relative to the mean size of the original's features; per picture [N]."""
    total = torch.zeros(len(ours[0]), device=ours[0].device)
    for a, b in zip(ours, theirs, strict=True):
        total = total + (a - b).abs().mean((1, 2, 3)) / b.abs().mean()
    return total / len(ours)


class Discriminator(nn.Module):
    """Patch discriminator of pictures [N, 3, S, S]: one score for each 8 x 8 patch."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for outputs in (width, 2 * width, 4 * width):
            convolution = nn.utils.parametrizations.spectral_norm(nn.Conv2d(channels, outputs, 4, 2, 1))
            layers += [convolution, nn.LeakyReLU(0.2)]
            channels = outputs
        layers.append(nn.Conv2d(channels, 1, 3, 1, 1))
        self.layers = nn.Sequential(*layers)

    def forward(self, picture: Tensor) -> Tensor:
        scores: Tensor = self.layers(picture)
        return scores


def least_squares(scores: Tensor, real: bool) -> Tensor:
    """LSGAN: real patches should score 1, painted ones 0."""
    return (scores - float(real)).square().mean()
