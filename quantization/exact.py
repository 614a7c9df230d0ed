"""Arithmetic that every runtime does alike, to the last bit.

Runtimes sum in different orders, and some in floating point. Once in a million values that decides a tie, and one step
of one int8 value is enough: it moves thousands in the next layer a little, some of which then round otherwise, and a
few layers on the two runtimes differ by as much as int8 differs from full precision. There is no such thing as nearly
the same; so nothing is rounded before it is exact:

- The scale of every activation behind a ReLU is a power of two. Alignment (`quantization/equalize.py`) brings the range
  there before, so it costs nothing.
- The step of a channel's weights has four significant bits (`quantization/rounding.py`).
- Biases are multiples of input step times weight step.
- Between two layers in float32, activations are rounded to 1/2047 of their range.

Sums are then multiples of their channel's unit that float32 holds, whatever the order: on real activations, that is,
for the largest conceivable ones would not fit. Excepted are the ends, behind which nothing is rounded to int8: the
projection, and layers in float32 at the end of the spatial network.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from quantization.calibration import Calibration
from quantization.observers import LAYERS, is_input, layer_bias, layer_weight, layers, observed, set_layer_bias
from quantization.rounding import weight_steps

_STEPS = 2047
"""Of an activation between two float32 layers."""
_INPUT = torch.tensor(1 / 128)
"""Step of the normalised picture."""
_RELUS = {torch.ops.aten.relu.default, torch.ops.aten.relu_.default}
_TIES = 1.5 * 2**23
"""Added to a float32 number of steps and taken off again, it leaves the nearest whole number of them, even at ties."""


@torch.no_grad()
def make_exact(prepared: GraphModule, calibration: Calibration) -> None:
    """Round the biases of all layers, and what passes between float32 layers, to the grid that exact sums need.

    What a float32 linear layer reads is left alone, and so is its bias: nothing is rounded behind it.

    Args:
        prepared: a captured graph, with observers that are filled or without any.
    """
    for name, grid in bias_grids(prepared, _round_between(prepared, calibration)).items():
        layer = next(layer for layer in layers(prepared) if layer.name == name)
        set_layer_bias(prepared, layer, on_grid(layer_bias(prepared, layer), grid))


def bias_grids(prepared: GraphModule, steps: Mapping[Node, Tensor]) -> dict[str, Tensor]:
    """Step of the bias of each output channel, float64 [C], by layer: input step times weight step.

    Args:
        steps: of the float32 activations that are rounded; a layer that reads another one has no grid.
    """
    scales = {place: item.observer.calculate_qparams()[0] for item in observed(prepared) for place in item.places}
    grids: dict[str, Tensor] = {}
    for layer in layers(prepared):
        source = layer.node.args[0]
        assert isinstance(source, Node)
        step = scales.get(str(source.target), _INPUT if is_input(source) else steps.get(source))
        if step is not None:
            grids[layer.name] = step.double() * weight_steps(layer_weight(prepared, layer)).double()
    return grids


def on_grid(bias: Tensor, grid: Tensor) -> Tensor:
    """The nearest multiples, float32 [C]."""
    return ((bias / grid).round() * grid).float()


def _round_between(prepared: GraphModule, calibration: Calibration) -> dict[Node, Tensor]:
    """Round each ReLU's output that float32 layers read; the nodes that hold it, rounded, and their steps."""
    steps: dict[Node, Tensor] = {}
    graph = prepared.graph
    for relu in [node for node in graph.nodes if node.target in _RELUS]:
        if all(user.target not in LAYERS for user in relu.users):
            continue
        step = torch.exp2(torch.tensor(float(calibration.ranges[relu.name][1]) / _STEPS).log2().ceil())
        prepared.register_buffer(f"{relu.name}_ties", (_TIES * step).view(1, 1, 1, 1))
        with graph.inserting_after(relu):
            ties = graph.get_attr(f"{relu.name}_ties")
        with graph.inserting_after(ties):
            raised = graph.call_function(torch.ops.aten.add.Tensor, (relu, ties))
        with graph.inserting_after(raised):
            rounded = graph.call_function(torch.ops.aten.sub.Tensor, (raised, ties))
        relu.replace_all_uses_with(rounded, lambda user, raised=raised: user is not raised)
        steps[rounded] = step
    prepared.recompile()
    return steps
