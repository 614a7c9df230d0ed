"""Weights held as int8 in a graph that computes in float32: a quarter of the bytes, the student's own function.

Released weights lie on the int8 grid (`quantization/rounding.py`), so nothing is lost.
"""

import torch
from torch.ao.quantization.fx import _decomposed  # noqa: F401 (registers the operators)
from torch.fx import GraphModule

from quantization.observers import layer_weight, layers
from quantization.rounding import LEVELS, weight_steps

WEIGHT_ONLY = "int8 weights per channel, symmetric; float32 activations, rounded to 1/2047 of their ranges"


def hold_weights(graph: GraphModule) -> None:
    """Replace the weights of all layers of a captured graph by int8 values that are dequantised where they are read."""
    for index, layer in enumerate(layers(graph)):
        weight = layer_weight(graph, layer)
        steps = weight_steps(weight)
        held = (weight / steps.view(-1, *[1] * (weight.dim() - 1))).round().to(torch.int8)
        names = [f"held_{index}", f"steps_{index}", f"zeros_{index}"]
        for name, tensor in zip(names, (held, steps, torch.zeros(len(steps), dtype=torch.int64)), strict=True):
            graph.register_buffer(name, tensor)
        with graph.graph.inserting_before(layer.node):
            held_node, steps_node, zeros_node = (graph.graph.get_attr(name) for name in names)
            operator = torch.ops.quantized_decomposed.dequantize_per_channel.default
            arguments = (held_node, steps_node, zeros_node, 0, -LEVELS, LEVELS, torch.int8)
            read = graph.graph.call_function(operator, arguments)
        layer.node.update_arg(1, read)
    graph.graph.eliminate_dead_code()
    graph.recompile()
