"""Weights on the int8 grid before anything is calibrated.

The full-precision student that is released has weights which int8 holds exactly, so quantising them later costs
nothing: an artefact differs from its student by the rounding of activations alone. What the rounding costs is paid
once, in the student itself, where evaluation sees it.
"""

import torch
from torch import Tensor, nn

from edge_stscq.codec.encoder import EdgeEncoder

LEVELS = 127
"""Steps of a weight on each side of zero."""
_OCTAVE = 8
"""Steps to choose from between a power of two and the next: see `quantization/exact.py` for why they are so few."""


@torch.no_grad()
def round_weights(encoder: EdgeEncoder) -> None:
    """Round the backbone's weights in place, each output channel to multiples of its own step."""
    for layer in encoder.backbone.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.weight.copy_(_rounded(layer.weight))


def weight_steps(weight: Tensor) -> Tensor:
    """Step float32 [C] of each output channel of a weight [C, ...]: the least of 8..15 times a power of two that
    reaches the largest magnitude in 127 steps. Of a rounded weight it is the step that it was rounded to.
    """
    least = weight.flatten(1).abs().amax(1).double().clamp_min(1e-12) / LEVELS
    octave = torch.exp2(torch.floor(torch.log2(least)))
    return ((least / octave * _OCTAVE * (1 - 1e-9)).ceil() / _OCTAVE * octave).float()


def _rounded(weight: Tensor) -> Tensor:
    steps = weight_steps(weight)
    while True:
        by_channel = steps.view(-1, *[1] * (weight.dim() - 1))
        rounded = (weight / by_channel).round().clamp(-LEVELS, LEVELS) * by_channel
        found = weight_steps(rounded)
        if torch.equal(found, steps):
            return rounded
        steps = found  # the largest weight was rounded down into reach of the next smaller step
