"""The identity trunk: a plain chain of depthwise-separable convolutions that ends in a 128-d face embedding.

The layout is that of OpenCV Zoo's SFace (Apache-2.0), from whose weights both encoders start: the teacher keeps it
whole, the student keeps the most important part of its channels and swaps PReLU for ReLU, which int8 kernels fuse.
"""

import torch
from torch import Tensor, nn

from edge_stscq.codec.config import EMBEDDING

INPUT = 112
"""Side in pixels of the trunk's input: the centre of the 128-px crop."""

_STEM = 32
_BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))


def _width(channels: int, share: float) -> int:
    return max(8, round(channels * share / 8) * 8)


def _activation(channels: int, prelu: bool) -> nn.Module:
    return nn.PReLU(channels) if prelu else nn.ReLU()


def _conv(inputs: int, outputs: int, kernel: int, stride: int, groups: int, prelu: bool) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(outputs, eps=1e-3), _activation(outputs, prelu)]


class IdentityTrunk(nn.Module):
    """Normalised picture [N, 3, 112, 112] -> raw embedding [N, 128].

    Args:
        share: share of the original channels kept, rounded to multiples of 8.
        prelu: PReLU as in the original, otherwise ReLU.
        norms: the two batch norms around the projection; a device's trunk has them folded into it.
    """

    def __init__(self, share: float = 1.0, prelu: bool = True, norms: bool = True) -> None:
        super().__init__()
        channels = _width(_STEM, share)
        layers = _conv(3, channels, 3, 1, 1, prelu)
        for outputs, stride in _BLOCKS:
            width = _width(outputs, share)
            layers += _conv(channels, channels, 3, stride, channels, prelu)
            layers += _conv(channels, width, 1, 1, 1, prelu)
            channels = width
        self.features = nn.Sequential(*layers)
        self.features_norm: nn.Module = nn.BatchNorm2d(channels, eps=2e-5) if norms else nn.Identity()
        self.project = nn.Linear(channels * 7 * 7, EMBEDDING)
        self.embedding_norm: nn.Module = nn.BatchNorm1d(EMBEDDING, eps=2e-5) if norms else nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        return self.finish(image, 0)

    def taps(self, image: Tensor, ends: tuple[int, ...]) -> list[Tensor]:
        """Feature maps after the given numbers of layers of `features`; nothing beyond the last is computed."""
        taps, x = [], image
        for index in range(ends[-1]):
            x = self.features[index](x)
            if index + 1 in ends:
                taps.append(x)
        return taps

    def finish(self, features: Tensor, layers: int) -> Tensor:
        """Raw embedding [N, 128] from the feature map after the first `layers` layers."""
        for index in range(layers, len(self.features)):
            features = self.features[index](features)
        embedding: Tensor = self.embedding_norm(self.project(self.features_norm(features).flatten(1)))
        return embedding


def load_sface(state: dict[str, Tensor]) -> IdentityTrunk:
    """The whole trunk with SFace's weights, given as the flat list of layers `body.<i>.*` in their order."""
    trunk = IdentityTrunk()
    modules = [*trunk.features, trunk.features_norm, None, trunk.project, trunk.embedding_norm]  # None: flatten
    for index, module in enumerate(modules):
        if module is not None:
            prefix = f"body.{index}."
            module.load_state_dict({k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)})
    return trunk.eval().requires_grad_(False)


def _layers(trunk: IdentityTrunk) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    convolutions = [m for m in trunk.features if isinstance(m, nn.Conv2d)]
    norms = [m for m in trunk.features if isinstance(m, nn.BatchNorm2d)]
    return list(zip(convolutions, norms, strict=True))


@torch.no_grad()
def prune(trunk: IdentityTrunk, share: float) -> IdentityTrunk:
    """A ReLU trunk that keeps the most important channels of each block.

    A channel's importance is the scale of its batch norm times the norms of the weights that read it (the next
    depthwise filter and the column of the pointwise convolution after it).
    """
    pruned = IdentityTrunk(share, prelu=False)
    pairs = [(*whole, *small) for whole, small in zip(_layers(trunk), _layers(pruned), strict=True)]
    kept = torch.arange(3)
    for index, (convolution, norm, small, small_norm) in enumerate(pairs):
        if convolution.groups == 1:  # a new set of channels is chosen here; depthwise layers keep it
            importance = norm.weight.abs()
            if index + 2 < len(pairs):
                depthwise, depthwise_norm, pointwise = pairs[index + 1][0], pairs[index + 1][1], pairs[index + 2][0]
                gain = _affine(depthwise_norm)[0].abs()
                importance = importance * depthwise.weight.flatten(1).norm(dim=1) * gain
                importance = importance * pointwise.weight.flatten(1).norm(dim=0)
            else:
                importance = importance * trunk.project.weight.view(EMBEDDING, -1, 49).norm(dim=(0, 2))
            chosen = importance.topk(small.out_channels).indices.sort().values
            small.weight.copy_(convolution.weight[chosen][:, kept])
            kept = chosen
        else:
            small.weight.copy_(convolution.weight[kept])
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(small_norm, name).copy_(getattr(norm, name)[kept])
    for name in ("weight", "bias", "running_mean", "running_var"):
        getattr(pruned.features_norm, name).copy_(getattr(trunk.features_norm, name)[kept])
    pruned.project.weight.copy_(trunk.project.weight.view(EMBEDDING, -1, 49)[:, kept].flatten(1))
    pruned.project.bias.copy_(trunk.project.bias)
    pruned.embedding_norm.load_state_dict(trunk.embedding_norm.state_dict())
    return pruned


@torch.no_grad()
def fold(trunk: IdentityTrunk, share: float) -> IdentityTrunk:
    """The same ReLU trunk with the batch norms around the projection folded into it."""
    folded = IdentityTrunk(share, prelu=False, norms=False)
    folded.features.load_state_dict(trunk.features.state_dict())
    inner, outer = trunk.features_norm, trunk.embedding_norm
    assert isinstance(inner, nn.BatchNorm2d)
    assert isinstance(outer, nn.BatchNorm1d)
    scale, offset = _affine(inner)
    weight = trunk.project.weight.view(EMBEDDING, -1, 49)
    bias = trunk.project.bias + (weight * offset[:, None]).sum((1, 2))
    weight = (weight * scale[:, None]).flatten(1)
    scale, offset = _affine(outer)
    folded.project.weight.copy_(weight * scale[:, None])
    folded.project.bias.copy_(bias * scale + offset)
    return folded.eval()


def _affine(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Scale and offset that a batch norm applies in eval mode."""
    assert norm.running_var is not None
    assert norm.running_mean is not None
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return scale, norm.bias - norm.running_mean * scale
