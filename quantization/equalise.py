"""Cross-layer equalisation (Nagel et al. 2019, arXiv 1906.04721): channels of one tensor get ranges alike.

An int8 activation has one scale for all channels, so a channel with a small range keeps few levels. ReLU lets a
positive factor through: dividing a channel by it behind one convolution and multiplying it in before the next changes
nothing in floating point. Where the next convolution is depthwise and so has a weight scale for each channel,
activations are made fully alike; where it mixes channels, activation and the weights that read it share the factor.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from edge_stscq.codec.encoder import EdgeEncoder, normalise_image

_BATCH = 16
_MOST = 32.0
"""Bound of a factor and of its inverse, relative to the channels' geometric mean."""


@torch.no_grad()
def equalise(encoder: EdgeEncoder, images: Tensor) -> None:
    """Equalise a student's backbone in place; its outputs stay what they are in exact arithmetic.

    Args:
        encoder: a student in eval mode: chains of convolution, batch norm or none, ReLU.
        images: uint8 [N, 128, 128, 3]; their activations give the ranges.
    """
    identity, spatial = encoder.backbone.identity, encoder.backbone.spatial
    assert isinstance(spatial, nn.Sequential)
    peaks = _peaks(encoder, images)
    _chain(identity.features, identity.project, peaks)
    *body, last = spatial
    _chain(nn.Sequential(*body), last, peaks)
    assert isinstance(last, nn.Conv2d)
    factor = _factors(peaks[last], encoder.head.transform.view(-1, last.out_channels, encoder.head.transform.shape[1]))
    last.weight.div_(factor.view(-1, 1, 1, 1))
    if last.bias is not None:
        last.bias.div_(factor)
    encoder.head.transform.mul_(factor.repeat(len(encoder.head.transform) // len(factor))[:, None])


def _peaks(encoder: EdgeEncoder, images: Tensor) -> dict[nn.Module, Tensor]:
    """Mean over pictures of each channel's largest magnitude, for every ReLU and the last spatial convolution."""
    sums: dict[nn.Module, Tensor] = {}

    def watch(module: nn.Module) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(_: nn.Module, inputs: object, output: Tensor) -> None:
            sums[module] = sums.get(module, torch.zeros(output.shape[1])) + output.abs().amax((2, 3)).sum(0)

        return hook

    spatial = encoder.backbone.spatial
    watched = [m for m in encoder.backbone.modules() if isinstance(m, nn.ReLU)] + [list(spatial.children())[-1]]
    hooks = [module.register_forward_hook(watch(module)) for module in watched]
    for batch in images.split(_BATCH):
        encoder.backbone(normalise_image(batch))
    for hook in hooks:
        hook.remove()
    return {module: total / len(images) for module, total in sums.items()}


def _chain(layers: nn.Sequential, reader: nn.Module, peaks: dict[nn.Module, Tensor]) -> None:
    """Equalise a chain of convolution, norm or none, and ReLU; `reader` takes what the last of them makes."""
    convolutions = [m for m in layers if isinstance(m, nn.Conv2d)]
    norms = [m for m in layers if isinstance(m, nn.BatchNorm2d)]
    relus = [m for m in layers if isinstance(m, nn.ReLU)]
    writers: list[nn.Conv2d | nn.BatchNorm2d] = [*norms] or [*convolutions]
    for writer, relu, following in zip(writers, relus, [*convolutions[1:], reader], strict=True):
        weight = following.weight
        assert isinstance(weight, Tensor)
        assert writer.bias is not None
        channels = len(writer.bias)
        depthwise = isinstance(following, nn.Conv2d) and following.groups == channels
        columns = weight if depthwise else weight.view(len(weight), channels, -1)
        factor = _factors(peaks[relu], None if depthwise else columns)
        writer.weight.div_(factor.view(-1, *[1] * (writer.weight.dim() - 1)))
        writer.bias.div_(factor)
        columns.mul_(factor.view(-1, 1, 1, 1) if depthwise else factor[:, None])


def _factors(peak: Tensor, columns: Tensor | None) -> Tensor:
    """What each channel [C] is divided by, given the weights [B, C, n] that read it, unless these have own scales."""
    wanted = peak.clamp_min(1e-6)
    if columns is not None:
        wanted = (wanted / columns.abs().amax((0, 2)).clamp_min(1e-9)).sqrt()
    return (wanted / wanted.log().mean().exp()).clamp(1 / _MOST, _MOST)
