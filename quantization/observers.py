"""Observers of the int8 graph: found by the tensor they watch, filled from pictures or from a calibration.

PT2E puts an observer on every tensor that will be quantised. The ones on weights see the weights themselves; the ones
on activations are named here after the graph node whose output they watch. Where tensors must share a range (both
sides of a reshape, the parts of a concatenation) one observer is inserted in several places.

A *layer* is a convolution or a linear operator with its bias and the ReLU behind it, named as the module that holds its
weight. It is int8 as a whole or not at all.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from edge_stscq.codec.encoder import normalize_image
from edge_stscq.config.codec import CROP
from edge_stscq.errors import EdgeError, require
from quantization.calibration import AGAIN, Calibration
from quantization.ranges import Histogram, Observer, aligned
from quantization.rounding import LEVELS, weight_steps

_SMALLEST_SCALE = 2**-24
"""Of weights and activations. The quantiser's own 2**-12 would leave a channel whose weights stay below 0.03 a handful
of levels; XNNPACK only needs the ratio input scale * weight scale / output scale to lie in 2**-32..256."""
_SELECTIONS = {torch.ops.aten.slice.Tensor}
"""Operators that pass on part of their input's values unchanged."""
LAYERS = {torch.ops.aten.conv2d.default, torch.ops.aten.linear.default}


@dataclass(frozen=True)
class Observed:
    """An observer, the nodes whose outputs it watches, in graph order, and the places where it is inserted."""

    observer: Any
    nodes: tuple[Node, ...]
    places: tuple[str, ...]

    @property
    def is_weight(self) -> bool:
        return self.nodes[0].op == "get_attr"

    @property
    def is_input(self) -> bool:
        """True if it sees nothing but values of the graph's input."""
        return all(is_input(node) for node in self.nodes)


@dataclass(frozen=True)
class Layer:
    """A convolution or linear operator of a captured or prepared graph."""

    node: Node

    @cached_property
    def name(self) -> str:
        """Path in the backbone of the module that holds the weight, e.g. `identity.features.0`."""
        return self.weight.removesuffix(".weight")

    @property
    def weight(self) -> str:
        """Path of the weight in the graph."""
        return str(_unobserved(self.node.args[1]).target)

    @property
    def bias(self) -> str:
        """Path of the bias in the graph."""
        bias = self.node.args[2]
        assert isinstance(bias, Node)
        return str(bias.target)

    @property
    def macs(self) -> int:
        """Multiplications for one picture."""
        return prod(self.node.meta["val"].shape[1:]) * prod(self._shape[1:])

    @property
    def kind(self) -> str:
        """E.g. `3x3 depthwise 64`, `1x1 64 > 128` or `linear 1024 > 128`."""
        outputs, inputs, *kernel = self._shape
        if not kernel:
            return f"linear {inputs} > {outputs}"
        size = "x".join(map(str, kernel))
        depthwise = inputs == 1 and outputs > 1
        return f"{size} depthwise {outputs}" if depthwise else f"{size} {inputs} > {outputs}"

    @property
    def watched(self) -> list[str]:
        """Names of the observers on its input, weight and output in a graph where it is int8."""
        (user,) = self.node.users
        (end,) = [user] if user.op == "call_module" else user.users  # behind the ReLU
        return [str(node.target) for node in (*self.node.args[:2], end) if isinstance(node, Node)]

    @property
    def _shape(self) -> tuple[int, ...]:
        return tuple(_unobserved(self.node.args[1]).meta["val"].shape)


def capture(backbone: nn.Module) -> GraphModule:
    """The graph of a backbone in eval mode, for any number of pictures."""
    captured: GraphModule = torch.export.export(backbone, (_picture(0),), strict=False).module()
    for node in captured.graph.nodes:
        if node.target == "_guards_fn":  # holds the graph to the example's batch
            captured.graph.erase_node(node)
    captured.recompile()
    return captured


def prepare(backbone: nn.Module, kept: Collection[str] = ()) -> GraphModule:
    """Capture a backbone and insert observers, all of them empty. The result takes any number of pictures.

    Args:
        backbone: in eval mode.
        kept: names of layers that stay in full precision.

    Raises:
        EdgeError: the backbone has no layer of such a name.
    """
    xnnpack = require("executorch.backends.xnnpack.quantizer.xnnpack_quantizer", "executorch")
    pt2e = require("torchao.quantization.pt2e", "executorch")
    flow = require("torchao.quantization.pt2e.quantize_pt2e", "executorch")
    config = xnnpack.get_symmetric_quantization_config(is_per_channel=True)
    activation = _observed_by(config.input_activation, pt2e.MinMaxObserver)
    weight = _observed_by(config.weight, pt2e.PerChannelMinMaxObserver)
    config = replace(config, input_activation=activation, output_activation=activation, weight=weight)
    captured = capture(backbone)
    if unknown := sorted(set(kept) - {layer.name for layer in layers(captured)}):
        raise EdgeError(f"the calibration keeps {unknown[0]}, which the student does not have; {AGAIN}")
    quantizer = xnnpack.XNNPACKQuantizer().set_global(config)
    # batch norms are folded before it looks; compiling the patterns that hold one takes longer than all the rest
    quantizer.SUPPORTED_PATTERNS = [p for p in quantizer.SUPPORTED_PATTERNS if "_bn" not in p.name]
    quantizer.set_filter_function(lambda node: node.target not in LAYERS or Layer(node).name not in kept)
    prepared: GraphModule = flow.prepare_pt2e(captured, quantizer)
    return prepared


def _observed_by(spec: Any, observer: Any) -> Any:
    return replace(spec, observer_or_fake_quant_ctr=observer.with_args(eps=_SMALLEST_SCALE))


def observed(prepared: GraphModule) -> list[Observed]:
    """All observers of a prepared graph, in graph order."""
    found: dict[int, tuple[Any, list[Node], list[str]]] = {}
    for node in prepared.graph.nodes:
        if node.op != "call_module" or not hasattr(module := prepared.get_submodule(node.target), "calculate_qparams"):
            continue
        _, nodes, places = found.setdefault(id(module), (module, [], []))
        nodes.append(node.args[0])
        places.append(node.target)
    return [Observed(observer, tuple(nodes), tuple(places)) for observer, nodes, places in found.values()]


def layers(graph: GraphModule) -> list[Layer]:
    """All layers of a captured or prepared graph, in graph order."""
    return [Layer(node) for node in graph.graph.nodes if node.target in LAYERS]


def watch(prepared: GraphModule) -> list[tuple[Observed, Histogram]]:
    """Put a histogram in the place of each observer of an activation."""
    pairs = [(item, Histogram()) for item in _activations(prepared)]
    for item, histogram in pairs:
        for place in item.places:
            setattr(prepared, place, histogram)
    return pairs


def measured_ranges(
    watched: list[tuple[Observed, Histogram]], observer: Observer, percentile: float
) -> dict[str, NDArray[np.float32]]:
    """Ranges by node name after pictures were run through histograms.

    The input's range is not measured: it is that of all pictures.
    """
    ranges: dict[str, NDArray[np.float32]] = {}
    for item, histogram in watched:
        pair = (_picture(0).min().item(), _picture(255).max().item())
        if not item.is_input:
            _fill(item.observer, *aligned(*histogram.range(observer, percentile)))
            pair = _representable(item.observer)
        ranges |= {node.name: np.array(pair, np.float32) for node in item.nodes}
    return ranges


def load(prepared: GraphModule, calibration: Calibration) -> None:
    """Fill all observers, activations from the calibration and weights from the weights, and correct the biases.

    Raises:
        EdgeError: the calibration was made for another graph.
    """
    names = {node.name for item in _activations(prepared) for node in item.nodes}
    differing = names - calibration.ranges.keys() if calibration.kept else names ^ calibration.ranges.keys()
    if differing:
        raise EdgeError(f"the calibration does not fit the student's graph (first at {min(differing)}); {AGAIN}")
    for item in observed(prepared):
        if item.is_weight:
            reach = LEVELS * weight_steps(_attribute(prepared, str(item.nodes[0].target)))
            item.observer.min_val, item.observer.max_val = -reach, reach
            continue
        pairs = {tuple(calibration.ranges[node.name].tolist()) for node in item.nodes}
        if len(pairs) != 1:
            shared = ", ".join(node.name for node in item.nodes)
            raise EdgeError(f"the calibration gives {shared} different ranges, the graph lets them share one; {AGAIN}")
        _fill(item.observer, *pairs.pop())
    if not calibration.biases:
        return
    found = {layer.name: layer for layer in layers(prepared)}
    if differing := found.keys() ^ calibration.biases.keys():
        raise EdgeError(f"the calibration's biases do not fit the student's graph (first at {min(differing)}); {AGAIN}")
    for name, layer in found.items():
        bias, shift = layer_bias(prepared, layer), torch.from_numpy(calibration.biases[name])
        if bias.shape != shift.shape:
            raise EdgeError(f"the calibration's bias for {name} has {len(shift)} channels, not {len(bias)}; {AGAIN}")
        set_layer_bias(prepared, layer, bias + shift)


def layer_weight(graph: GraphModule, layer: Layer) -> Tensor:
    """A layer's weight [C, ...] in a prepared graph."""
    return _attribute(graph, layer.weight)


def layer_bias(graph: GraphModule, layer: Layer) -> Tensor:
    """A layer's bias [C] in a prepared graph."""
    return _attribute(graph, layer.bias)


def set_layer_bias(graph: GraphModule, layer: Layer, bias: Tensor) -> None:
    """Give a layer of a prepared graph another bias [C]; the student's own parameter is left as it is."""
    parent, _, name = layer.bias.rpartition(".")
    setattr(graph.get_submodule(parent), name, nn.Parameter(bias, requires_grad=False))


def _activations(prepared: GraphModule) -> Iterator[Observed]:
    return (item for item in observed(prepared) if not item.is_weight)


def _unobserved(node: Any) -> Node:
    """The node that makes a tensor, whether or not an observer stands behind it."""
    assert isinstance(node, Node)
    return node if node.op == "get_attr" else node.all_input_nodes[0]


def is_input(node: Node) -> bool:
    while node.op == "call_function" and node.target in _SELECTIONS:
        node = node.all_input_nodes[0]
    return node.op == "placeholder"


def _picture(value: int) -> Tensor:
    """Input of the backbone for a picture of one grey value."""
    return normalize_image(torch.full((1, CROP, CROP, 3), value, dtype=torch.uint8))


def _fill(observer: Any, low: float, high: float) -> None:
    observer.min_val, observer.max_val = torch.tensor(low), torch.tensor(high)


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
