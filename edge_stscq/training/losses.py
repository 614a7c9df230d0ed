"""The hybrid semantic metric (after LFIC, arXiv 1812.10067): pixels, perceptual features, identity, adversarial.

Pixels are compared by L1. Perceptual features and identity come from one pass of the frozen recognizer: its early
feature maps say what the face looks like, its embedding says who it is. The adversarial term is least-squares
(LSGAN, Mao et al. 2017) on patches.
"""

import copy
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_stscq.codec.trunk import INPUT, IdentityTrunk
from edge_stscq.config.codec import CROP
from edge_stscq.recognizers.sface import fuse_batchnorms

_Network = TypeVar("_Network", bound=nn.Module)


def channels_last(network: _Network) -> _Network:
    """Lay the weights of convolutions out as their kernels read them; in place."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


_TAPS = (15, 21, 27)
_PLAIN_TAPS = (10, 14, 18)
"""Layers of a trunk, whole or plain, after whose activation features are compared: 56, 56 and 28 px."""
_SIDES = (117, 139)
"""Sides in pixels to which a picture is resized before a recognizer looks at its middle; 128 is its own."""
_OFFSET = 2
"""Pixels by which it looks beside the middle, at most, in each direction."""
_COARSE = 2 / 3
"""Share of views in which it sees half the resolution."""


@dataclass(frozen=True)
class View:
    """Place from which a recognizer looks: the side that pictures are resized to, and the corner of its 112-px window.

    `coarse`: only half of the resolution is seen. A face is recognized without the other half, and a pattern in it
    pleases no one.
    """

    side: int = CROP
    top: int = (CROP - INPUT) // 2
    left: int = (CROP - INPUT) // 2
    coarse: bool = False

    @classmethod
    def draw(cls) -> "View":
        """A random one: no detail that is seen from one place only can please the recognizer."""
        side = int(torch.randint(_SIDES[0], _SIDES[1] + 1, ()))
        top, left = ((side - INPUT) // 2 + torch.randint(-_OFFSET, _OFFSET + 1, (2,))).tolist()
        return cls(side, top, left, bool(torch.rand(()) < _COARSE))

    def of(self, picture: Tensor) -> Tensor:
        """The window [N, 3, 112, 112] of pictures [N, 3, S, S]."""
        if self.coarse:
            picture = functional.avg_pool2d(picture, 2)
        if picture.shape[-1] != self.side:
            size = (self.side, self.side)
            picture = functional.interpolate(picture, size=size, mode="bilinear", align_corners=False)
        return picture[..., self.top : self.top + INPUT, self.left : self.left + INPUT]


@dataclass(frozen=True)
class RecognizerOutput:
    """Feature maps and embeddings of N pictures."""

    features: list[Tensor]
    embedding: Tensor
    """Unit vectors [N, 128]."""


class FrozenRecognizer(nn.Module):
    """A frozen trunk as a differentiable metric on pictures [N, 3, S, S] in about -1..1, S at most 128."""

    def __init__(self, trunk: IdentityTrunk) -> None:
        super().__init__()
        self.trunk = (copy.deepcopy(trunk).eval() if trunk.plain else fuse_batchnorms(trunk)).requires_grad_(False)
        self._taps = _PLAIN_TAPS if trunk.plain else _TAPS
        channels_last(self.trunk)

    def forward(self, picture: Tensor, view: View) -> RecognizerOutput:
        taps = self.trunk.taps(view.of(picture), self._taps)
        embedding = self.trunk.finish(taps[-1], self._taps[-1])
        return RecognizerOutput(taps, functional.normalize(embedding))

    def features(self, picture: Tensor, view: View) -> list[Tensor]:
        """The feature maps alone, at a fraction of the cost."""
        return self.trunk.taps(view.of(picture), self._taps)


def perceptual_loss(decoded: list[Tensor], original: list[Tensor]) -> Tensor:
    """Mean over taps of the L1 distance, relative to the mean size of the original's features; per picture [N]."""
    total = torch.zeros(len(decoded[0]), device=decoded[0].device)
    for a, b in zip(decoded, original, strict=True):
        total = total + (a - b).abs().mean((1, 2, 3)) / b.abs().mean()
    return total / len(decoded)


def relation_loss(embedding: Tensor, target: Tensor) -> Tensor:
    """Squared error of the similarities among a batch of unit vectors [N, D].

    Relations between the pictures of a batch matter more for verification than the absolute place.
    """
    return (embedding @ embedding.t() - target @ target.t()).square().mean()


def excess_total_variation(decoded: Tensor, original: Tensor) -> Tensor:
    """Total variation of pictures beyond the originals', brightness and colour apart; [N].

    Noise that pleases a recognizer is rougher than any face, in its colours above all.
    """
    excess = torch.zeros(len(decoded), device=decoded.device)
    for a, b in zip(_brightness_and_color(decoded), _brightness_and_color(original), strict=True):
        excess = excess + functional.relu(_variation(a) - _variation(b))
    return excess


def _brightness_and_color(picture: Tensor) -> tuple[Tensor, Tensor]:
    brightness = picture.mean(1, keepdim=True)
    return brightness, picture - brightness


def _variation(x: Tensor) -> Tensor:
    return x.diff(dim=2).abs().mean((1, 2, 3)) + x.diff(dim=3).abs().mean((1, 2, 3))


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
    """LSGAN: real patches should score 1, decoded ones 0."""
    return (scores - float(real)).square().mean()
