"""Scales of activations that int8 can make the most of, at no cost: what ReLU lets through, the next layer takes back.

Dividing a channel by a positive factor behind one convolution and multiplying it in before the next changes nothing in
floating point. It is done twice:

- Cross-layer equalisation (Nagel et al. 2019, arXiv 1906.04721): an int8 activation has one scale for all channels, so
  a channel with a small range keeps few levels. Where the next convolution is depthwise and so has a weight scale for
  each channel, channels are made fully alike; where it mixes channels, activation and the weights that read it share
  the factor.
- Alignment: all channels of a tensor are scaled alike, so that the range which its observer chooses is 255 steps of a
  power of two (`quantization/exact.py` says what for).
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from edge_stscq.codec.encoder import EdgeEncoder, normalize_image
from quantization.ranges import Histogram, Observer, aligned

_BATCH = 16
_MOST = 32.0
"""Bound of a factor and of its inverse, relative to the channels' geometric mean."""


@torch.no_grad()
def equalize(encoder: EdgeEncoder, images: Tensor, observer: Observer = "mse", percentile: float = 99.99) -> None:
    """Equalise and align a student's backbone in place; its outputs stay what they are in exact arithmetic.

    Args:
        encoder: a student in eval mode: chains of convolution and ReLU.
        images: uint8 [N, 128, 128, 3]; their activations give the ranges.
        observer: how the ranges will be chosen, see `quantization/ranges.py`.
        percentile: of the magnitudes, 0..100; for that observer alone.
    """
    identity, spatial = encoder.backbone.identity, encoder.backbone.spatial
    assert isinstance(spatial, nn.Sequential)
    *body, last = spatial
    assert isinstance(last, nn.Conv2d)
    chains = ((list(identity.features), identity.project), (body, last))
    watched = [module for module in encoder.backbone.modules() if isinstance(module, nn.ReLU)]
    peaks: dict[nn.Module, Tensor] = {}

    def add_peak(module: nn.Module, output: Tensor) -> None:
        peaks[module] = peaks.get(module, torch.zeros(output.shape[1])) + output.abs().amax((2, 3)).sum(0)

    _watch(encoder, images, [*watched, last], add_peak)
    peaks = {module: total / len(images) for module, total in peaks.items()}
    for layers, reader in chains:
        _rescale(layers, reader, lambda relu, columns: _factors(peaks[relu], columns))
    factor = _factors(peaks[last], encoder.head.transform.view(-1, last.out_channels, encoder.head.transform.shape[1]))
    _divide(last, factor)
    encoder.head.transform.mul_(factor.repeat(len(encoder.head.transform) // len(factor))[:, None])

    histograms: dict[nn.Module, Histogram] = {module: Histogram() for module in watched}
    _watch(encoder, images, watched, lambda module, output: histograms[module](output))
    ranges = {module: histogram.range(observer, percentile) for module, histogram in histograms.items()}
    misfits = {module: torch.tensor(pair[1] / aligned(*pair)[1]) for module, pair in ranges.items()}
    for layers, reader in chains:
        _rescale(layers, reader, lambda relu, _: misfits[relu])


def _watch(
    encoder: EdgeEncoder, images: Tensor, modules: Iterable[nn.Module], look: Callable[[nn.Module, Tensor], object]
) -> None:
    """Show the outputs of some modules to `look`, batch by batch."""

    def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
        look(module, output)

    hooks = [module.register_forward_hook(hook) for module in modules]
    for batch in images.split(_BATCH):
        encoder.backbone(normalize_image(batch))
    for handle in hooks:
        handle.remove()


def _rescale(
    layers: Sequence[nn.Module], reader: nn.Module, factors: Callable[[nn.Module, Tensor | None], Tensor]
) -> None:
    """Divide what the convolutions of a chain write and multiply what reads it; `reader` reads the last of them.

    Args:
        layers: convolution, ReLU, convolution, ReLU, ...
        factors: gives those of one ReLU, [C] or a scalar, from the weights [B, C, n] that read it, or None where these
            have a scale for each channel.
    """
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    relus = [layer for layer in layers if isinstance(layer, nn.ReLU)]
    for writer, relu, following in zip(convolutions, relus, [*convolutions[1:], reader], strict=True):
        weight, channels = following.weight, writer.out_channels
        assert isinstance(weight, Tensor)
        depthwise = isinstance(following, nn.Conv2d) and following.groups == channels
        columns = weight if depthwise else weight.view(len(weight), channels, -1)
        factor = factors(relu, None if depthwise else columns).expand(channels)
        _divide(writer, factor)
        columns.mul_(factor.view(-1, 1, 1, 1) if depthwise else factor[:, None])


def _divide(convolution: nn.Conv2d, factor: Tensor) -> None:
    """Divide output channels by factors [C]."""
    assert convolution.bias is not None
    convolution.weight.div_(factor.view(-1, 1, 1, 1))
    convolution.bias.div_(factor)


def _factors(peak: Tensor, columns: Tensor | None) -> Tensor:
    """Divisor of each channel [C], given the weights [B, C, n] that read it, unless these have own scales."""
    wanted = peak.clamp_min(1e-6)
    if columns is not None:
        wanted = (wanted / columns.abs().amax((0, 2)).clamp_min(1e-9)).sqrt()
    return (wanted / wanted.log().mean().exp()).clamp(1 / _MOST, _MOST)
