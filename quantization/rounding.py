"""Weights on the int8 grid before anything is calibrated.

The full-precision student that is released has weights which int8 holds exactly, so quantising them later costs
nothing: an artefact differs from its student by the rounding of activations alone. What the rounding costs is paid
once, in the student itself, where evaluation sees it.
"""

import torch
from torch import nn

from edge_stscq.codec.encoder import EdgeEncoder

LEVELS = 127
"""Steps of a weight on each side of zero."""


@torch.no_grad()
def round_weights(encoder: EdgeEncoder) -> None:
    """Round the backbone's weights in place, each output channel to multiples of its largest magnitude over 127.

    A batch norm behind a convolution scales whole output channels, so it may be folded without leaving the grid.
    """
    for layer in encoder.backbone.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            weight = layer.weight
            step = weight.flatten(1).abs().amax(1).clamp_min(1e-12) / LEVELS
            step = step.view(-1, *[1] * (weight.dim() - 1))
            weight.copy_((weight / step).round() * step)
