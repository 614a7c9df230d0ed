"""The int8 graph in floating point, with a switch at every layer.

Where the int8 graph quantises a tensor, the simulation rounds it to the same values and goes on in float32. So a layer
can be made int8 and float again between two pictures, which is what measuring its share of the damage needs; the
converted graph computes the same but for the order in which float32 sums are rounded.
"""

import copy
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_stscq._quiet import silence_exporters
from edge_stscq.codec.encoder import Analysis, EdgeEncoder
from quantization.calibration import Calibration
from quantization.exact import bias_grids, on_grid
from quantization.observers import Observed, layer_bias, layers, load, observed, prepare, set_layer_bias

_BATCH = 16


class Rounding(nn.Module):
    """Rounds a tensor to what int8 can hold, if `on`."""

    def __init__(self, item: Observed) -> None:
        super().__init__()
        self.scale, self.zero_point = item.observer.calculate_qparams()
        self.bounds = item.observer.quant_min, item.observer.quant_max
        self.on = False

    def forward(self, x: Tensor) -> Tensor:
        if not self.on:
            return x
        if len(self.scale) == 1:
            scale, zero_point = float(self.scale), int(self.zero_point)
            return torch.fake_quantize_per_tensor_affine(x, scale, zero_point, *self.bounds)
        return torch.fake_quantize_per_channel_affine(x, self.scale, self.zero_point.int(), 0, *self.bounds)


class Simulation:
    """A student whose layers are int8 or not, as told by `use`; at first all are float.

    Attributes:
        encoder: the student with the simulated backbone.
        graph: that backbone.
        layers: its layers in graph order.
    """

    def __init__(self, encoder: EdgeEncoder, calibration: Calibration) -> None:
        with silence_exporters(), torch.no_grad():
            self.graph = prepare(encoder.backbone)
            load(self.graph, replace(calibration, biases={}, kept=()))
            self._grids = bias_grids(self.graph, {})
        for item in observed(self.graph):
            rounding = Rounding(item)
            for place in item.places:
                setattr(self.graph, place, rounding)
        self.encoder = with_backbone(encoder, self.graph)
        self.layers = tuple(layers(self.graph))
        self._biases = {layer.name: layer_bias(self.graph, layer) for layer in self.layers}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(layer.name for layer in self.layers)

    def use(self, int8: Collection[str], biases: Mapping[str, NDArray[np.float32]] | None = None) -> None:
        """Make exactly these layers int8 and add these shifts to the biases of their layers.

        The biases of layers that read what int8 holds, as those in int8 do, are rounded as the graph rounds them.
        """
        chosen = {place for layer in self.layers if layer.name in int8 for place in layer.watched}
        on = {id(self.graph.get_submodule(place)) for place in chosen}
        for module in self.graph.modules():
            if isinstance(module, Rounding):
                module.on = id(module) in on
        for layer in self.layers:
            shift = (biases or {}).get(layer.name)
            bias = self._biases[layer.name]
            bias = bias if shift is None else bias + torch.from_numpy(shift)
            reads_int8 = id(self.graph.get_submodule(layer.watched[0])) in on
            set_layer_bias(self.graph, layer, on_grid(bias, self._grids[layer.name]) if reads_int8 else bias)


def with_backbone(encoder: EdgeEncoder, backbone: Any) -> EdgeEncoder:
    """The encoder with another backbone; everything else is shared."""
    other = copy.copy(encoder)
    other._modules = encoder._modules | {"backbone": backbone}
    return other


def analyse(
    encoder: EdgeEncoder, images: NDArray[np.uint8], progress: Callable[[int], None] = lambda pictures: None
) -> Analysis:
    """All that an encoder makes of crops uint8 [N, 128, 128, 3], a batch at a time."""
    found = []
    for start in range(0, len(images), _BATCH):
        batch = torch.from_numpy(images[start : start + _BATCH])
        found.append(encoder.analyse(batch))
        progress(len(batch))
    return Analysis(*(torch.cat(part) for part in zip(*found, strict=True)))


def agreement(reference: Analysis, other: Analysis, positions: slice = slice(None)) -> float:
    """Share of tokens, of all or of some positions, with the same group and index."""
    same = (reference.tokens == other.tokens) & (reference.group == other.group)[:, None]
    return float(same[:, positions].double().mean())


def sqnr(reference: Tensor, other: Tensor) -> float | None:
    """Signal to quantisation noise in dB; None where there is no noise."""
    noise = (reference - other).double().square().sum()
    return float(10 * torch.log10(reference.double().square().sum() / noise)) if noise else None
