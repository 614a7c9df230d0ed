"""Observers of the int8 graph: found by the tensor they watch, filled from pictures or from saved ranges.

PT2E puts an observer on every tensor that will be quantised. The ones on weights see the weights themselves; the ones
on activations are named here after the graph node whose output they watch. Where tensors must share a range (both
sides of a reshape, the parts of a concatenation) one observer is inserted in several places.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from edge_stscq.errors import EdgeError, require
from quantization.calibration import AGAIN, Calibration

_SMALLEST_SCALE = 2**-24
"""Of weights and activations. The quantiser's own 2**-12 would leave a channel whose weights stay below 0.03 a handful
of levels; XNNPACK only needs the ratio input scale * weight scale / output scale to lie in 2**-32..256."""
_SELECTIONS = {torch.ops.aten.slice.Tensor}
"""Operators that pass on part of their input's values unchanged."""


@dataclass(frozen=True)
class Observed:
    """An observer and the nodes whose outputs it watches, in graph order."""

    observer: Any
    nodes: tuple[Node, ...]

    @property
    def is_weight(self) -> bool:
        return self.nodes[0].op == "get_attr"

    @property
    def is_input(self) -> bool:
        """Whether it sees nothing but values of the graph's input."""
        return all(_is_input(node) for node in self.nodes)


def prepare(backbone: nn.Module, example: Tensor, histograms: bool) -> GraphModule:
    """Capture a backbone and insert observers: histograms to calibrate with, or plain ranges to be filled.

    Args:
        backbone: in eval mode.
        example: an input of the shape that will be used.
    """
    xnnpack = require("executorch.backends.xnnpack.quantizer.xnnpack_quantizer", "executorch")
    pt2e = require("torchao.quantization.pt2e", "executorch")
    flow = require("torchao.quantization.pt2e.quantize_pt2e", "executorch")
    observer = pt2e.HistogramObserver if histograms else pt2e.MinMaxObserver
    config = xnnpack.get_symmetric_quantization_config(is_per_channel=True)
    activation = _observed_by(config.input_activation, observer)
    weight = _observed_by(config.weight, pt2e.PerChannelMinMaxObserver)
    config = replace(config, input_activation=activation, output_activation=activation, weight=weight)
    captured = torch.export.export(backbone, (example,), strict=False).module()
    prepared: GraphModule = flow.prepare_pt2e(captured, xnnpack.XNNPACKQuantizer().set_global(config))
    return prepared


def _observed_by(spec: Any, observer: Any) -> Any:
    return replace(spec, observer_or_fake_quant_ctr=observer.with_args(eps=_SMALLEST_SCALE))


def observed(prepared: GraphModule) -> list[Observed]:
    """All observers of a prepared graph, in graph order."""
    found: dict[int, tuple[Any, list[Node]]] = {}
    for node in prepared.graph.nodes:
        if node.op != "call_module" or not hasattr(module := prepared.get_submodule(node.target), "calculate_qparams"):
            continue
        found.setdefault(id(module), (module, []))[1].append(node.args[0])
    return [Observed(observer, tuple(nodes)) for observer, nodes in found.values()]


def measured_ranges(prepared: GraphModule, lowest: float, highest: float) -> dict[str, NDArray[np.float32]]:
    """Ranges by node name after pictures were run through histogram observers.

    A histogram's range minimises the squared rounding error, so outliers may be cut. The input's range is not measured:
    it is that of all pictures, `lowest..highest`.
    """
    ranges: dict[str, NDArray[np.float32]] = {}
    for item in _activations(prepared):
        pair = (lowest, highest) if item.is_input else _representable(item.observer)
        ranges |= {node.name: np.array(pair, np.float32) for node in item.nodes}
    return ranges


def load_ranges(prepared: GraphModule, calibration: Calibration) -> None:
    """Fill all observers: activations from the calibration, weights from the weights.

    Raises:
        EdgeError: the calibration was made for another graph.
    """
    names = {node.name for item in _activations(prepared) for node in item.nodes}
    if differing := sorted(names ^ calibration.ranges.keys()):
        raise EdgeError(f"the calibration does not fit the student's graph (first at {differing[0]}); {AGAIN}")
    for item in observed(prepared):
        if item.is_weight:
            item.observer(_attribute(prepared, str(item.nodes[0].target)))
            continue
        pairs = {tuple(calibration.ranges[node.name].tolist()) for node in item.nodes}
        if len(pairs) != 1:
            shared = ", ".join(node.name for node in item.nodes)
            raise EdgeError(f"the calibration gives {shared} different ranges, the graph lets them share one; {AGAIN}")
        low, high = pairs.pop()
        item.observer.min_val, item.observer.max_val = torch.tensor(low), torch.tensor(high)


def _activations(prepared: GraphModule) -> Iterator[Observed]:
    return (item for item in observed(prepared) if not item.is_weight)


def _is_input(node: Node) -> bool:
    while node.op == "call_function" and node.target in _SELECTIONS:
        node = node.all_input_nodes[0]
    return node.op == "placeholder"


def _representable(observer: Any) -> tuple[float, float]:
    """Lowest and highest value that the int8 tensor of this observer can hold."""
    scale, zero_point = observer.calculate_qparams()
    low, high = observer.quant_min, observer.quant_max
    return float(scale) * (low - int(zero_point)), float(scale) * (high - int(zero_point))


def _attribute(module: nn.Module, path: str) -> Tensor:
    parent, _, name = path.rpartition(".")
    tensor = getattr(module.get_submodule(parent), name)
    assert isinstance(tensor, Tensor)
    return tensor
