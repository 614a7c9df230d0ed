"""Rounding to a grid in one pass over memory, for training.

A student made for integers rounds every activation; operation by operation of torch, that takes longer than its
convolutions. Compiled, values and gradients are one loop each.
"""

import os
import shutil
from functools import cache

import torch
from torch import nn

from edge_stscq.codec.integer.grid import PLAIN, GridConv, Rounding, rounded_to_steps, rounding_gradients

_COMPILERS = (os.environ.get("CXX", "g++"), "g++", "clang++", "cl")


@cache
def _compiled() -> Rounding | None:
    """Compiled kernels; None on a machine without a C++ compiler."""
    if not any(map(shutil.which, _COMPILERS)):
        return None
    return Rounding(torch.compile(rounded_to_steps, dynamic=True), torch.compile(rounding_gradients, dynamic=True))


def fuse_rounding(network: nn.Module) -> bool:
    """Let the layers of a network on a CPU round by compiled kernels; false where no C++ compiler is installed."""
    kernels = _compiled()
    for layer in network.modules():
        if isinstance(layer, GridConv):
            layer.rounding = kernels or PLAIN
    return kernels is not None
