"""Weights on the int8 grid before anything is calibrated.

The full-precision student that is released has weights which int8 holds exactly, so quantising them later costs
nothing: an artefact differs from its student by the rounding of activations alone. What the rounding costs is paid
once, in the student itself, where evaluation sees it.

It costs little: inputs of a layer are correlated, so what rounding one weight spoils the weights not yet rounded make
good (GPTQ, Frantar et al. 2023, arXiv 2210.17323), each layer on what the rounded ones before it give, and its bias
restores the means.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_stscq.codec.encoder import EdgeEncoder, normalize_image
from edge_stscq.codec.trunk import INPUT

LEVELS = 127
"""Steps of a weight on each side of zero."""
_OCTAVE = 8
"""Steps to choose from between a power of two and the next: see `quantization/exact.py` for why they are so few."""
_FACES = 128
"""Run through the layers."""
_SEEN = 40_000
"""Places whose correlations are taken."""
_RIDGE = 0.01
"""Added to the correlations' diagonal, relative to its mean."""
_WIDEST = 2000
"""Inputs of a layer whose correlations are taken at all; of the projection's 34,496 none is worth compensating."""


@torch.no_grad()
def round_weights(encoder: EdgeEncoder, images: Tensor) -> None:
    """Round the backbone's weights in place, each output channel to multiples of its own step.

    Args:
        encoder: a student in eval mode: chains of convolution and ReLU.
        images: uint8 [N, 128, 128, 3]; 128 of them show what the layers see.
    """
    chosen = torch.linspace(0, len(images) - 1, min(_FACES, len(images))).round().long()
    picture = normalize_image(images[chosen])
    margin = (picture.shape[-1] - INPUT) // 2
    identity, spatial = encoder.backbone.identity, encoder.backbone.spatial
    assert isinstance(spatial, nn.Sequential)
    _round_chain([*identity.features, nn.Flatten(), identity.project], picture[..., margin:-margin, margin:-margin])
    _round_chain(spatial, picture)


def weight_steps(weight: Tensor) -> Tensor:
    """Step float32 [C] of each output channel of a weight [C, ...]: the least of 8..15 times a power of two that
    reaches the largest magnitude in 127 steps. Of a rounded weight it is the step that it was rounded to.
    """
    least = weight.flatten(1).abs().amax(1).double().clamp_min(1e-12) / LEVELS
    octave = torch.exp2(torch.floor(torch.log2(least)))
    return ((least / octave * _OCTAVE * (1 - 1e-9)).ceil() / _OCTAVE * octave).float()


def _round_chain(layers: Iterable[nn.Module], x: Tensor) -> None:
    """Round all layers of a chain that x is the input of."""
    wanted = found = x
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            inputs, weight = _inputs(layer, found), layer.weight.flatten(1)
            target = _run(layer, wanted)
            groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
            blocks = weight.view(groups, len(weight) // groups, -1)
            layer.weight.copy_(_rounded(blocks, inputs).view_as(layer.weight))
            found = _run(layer, found)
            others = [0, *range(2, found.dim())]
            shift = target.mean(others) - found.mean(others)
            assert layer.bias is not None
            layer.bias.add_(shift)
            wanted, found = target, found + shift.view(-1, *[1] * (found.dim() - 2))
        else:
            wanted, found = _run(layer, wanted), _run(layer, found)


def _run(layer: nn.Module, x: Tensor) -> Tensor:
    return torch.cat([layer(part) for part in x.split(16)])


def _inputs(layer: nn.Conv2d | nn.Linear, x: Tensor) -> Tensor | None:
    """Inputs that each group of a layer multiplies its weights with, [G, I, places]; None if I is too large."""
    if isinstance(layer, nn.Linear):
        return x.t()[None] if layer.in_features <= _WIDEST else None
    places = (x.shape[-1] // layer.stride[0]) ** 2
    few = x[torch.linspace(0, len(x) - 1, max(1, min(len(x), _SEEN // places))).long()]
    kernel, padding, stride = layer.kernel_size, layer.padding, layer.stride
    assert not isinstance(padding, str)
    columns = functional.unfold(few, kernel, padding=padding, stride=stride)
    return columns.unflatten(1, (layer.groups, -1)).permute(1, 2, 0, 3).flatten(2)


def _rounded(weight: Tensor, inputs: Tensor | None) -> Tensor:
    """Weights [G, O, I] on the grid, given what they are multiplied with, [G, I, places]."""
    groups, outputs, count = weight.shape
    reach = None
    if inputs is not None:
        gram = (inputs @ inputs.transpose(1, 2)).double()
        ridge = _RIDGE * gram.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-12)[:, None, None]
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram + ridge * torch.eye(count, dtype=torch.double)))
        reach = torch.linalg.cholesky(inverse, upper=True).float()
    steps = weight_steps(weight.flatten(0, 1)).view(groups, outputs)
    while True:
        rounded = _compensated(weight, reach, steps)
        found = weight_steps(rounded.flatten(0, 1)).view(groups, outputs)
        if torch.equal(found, steps):
            return rounded
        steps = found  # a largest weight came within reach of the next smaller step


def _compensated(weight: Tensor, reach: Tensor | None, steps: Tensor) -> Tensor:
    """Weights [G, O, I] rounded column by column; each error is passed on to the columns after it.

    Args:
        reach: upper Cholesky factor of the inverse correlations [G, I, I], or None to pass nothing on.
        steps: [G, O]
    """
    if reach is None:
        by_channel = steps[..., None]
        return (weight / by_channel).round().clamp(-LEVELS, LEVELS) * by_channel
    left, rounded = weight.clone(), torch.empty_like(weight)
    for i in range(weight.shape[2]):
        rounded[..., i] = (left[..., i] / steps).round().clamp(-LEVELS, LEVELS) * steps
        error = (left[..., i] - rounded[..., i]) / reach[:, i, i, None]
        left[..., i + 1 :] -= error[..., None] * reach[:, None, i, i + 1 :]
    return rounded
