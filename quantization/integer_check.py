"""Check of a captured integer graph: every operator in it has kernels that agree to the last bit on every runtime.

Each convolution must stand between dequantize and quantize operators whose steps are powers of two, with weights within
7 bits; beside convolutions only operators may occur that move data or compute whole numbers in float32 without leaving
what it holds exactly. What `integer_program` promises of the student is held here against what will be lowered.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Node

from edge_stscq.codec.integer.grid import WEIGHT_LIMIT
from edge_stscq.errors import EdgeError

_aten, _q = torch.ops.aten, torch.ops.quantized_decomposed
_MOVES = {
    _aten.permute.default, _aten.slice.Tensor, _aten.select.int, _aten.flatten.using_ints, _aten.reshape.default,
    _aten.cat.default, _aten.index_select.default, _aten.squeeze.dim, _aten.to.dtype,
    _aten._assert_tensor_metadata.default,
}  # fmt: skip
_WHOLE = {
    _aten.mul.Tensor, _aten.sub.Tensor, _aten.sum.dim_IntList, _aten.bmm.default, _aten.amin.default,
    _aten.argmin.default, _aten.relu.default,
}  # fmt: skip
_QUANTIZE, _DEQUANTIZE = _q.quantize_per_tensor.default, _q.dequantize_per_tensor.default
_BY_CHANNEL = _q.dequantize_per_channel.default
_CONVOLUTION = _aten.conv2d.default
EXACT_OPERATORS = frozenset(_MOVES | _WHOLE | {_QUANTIZE, _DEQUANTIZE, _BY_CHANNEL, _CONVOLUTION})


def check_exact(program: ExportedProgram) -> None:
    """Refuse a graph that two runtimes may compute differently.

    Raises:
        EdgeError: the first layer or operator that is not exact, by name, and why.
    """
    constants = {**program.state_dict, **program.constants}
    held = program.graph_signature.inputs_to_buffers | program.graph_signature.inputs_to_parameters
    values = {name: constants[key] for name, key in held.items() if key in constants}
    layer = "the picture"
    for node in program.graph.nodes:
        if node.op != "call_function":
            continue
        if node.target is _CONVOLUTION:
            layer = _name(node, held)
            _check_convolution(node, layer, values)
        elif node.target not in EXACT_OPERATORS:
            operator = str(node.target).removeprefix("aten.").split(".")[0]
            raise EdgeError(f"operator {operator} behind {layer} has no kernel that is the same on every runtime")


def _name(node: Node, held: dict[str, str]) -> str:
    """Name of a layer, after its weights."""
    weight = node.args[1]
    while isinstance(weight, Node) and weight.op == "call_function":
        weight = weight.args[0]
    key = held.get(weight.name, weight.name) if isinstance(weight, Node) else str(weight)
    return key.rpartition(".")[0] or key


def _check_convolution(node: Node, layer: str, values: dict[str, Any]) -> None:
    source, weight = node.args[0], node.args[1]
    while isinstance(source, Node) and source.target in _MOVES:
        source = source.args[0]
    if not isinstance(source, Node) or source.target is not _DEQUANTIZE:
        raise EdgeError(f"layer {layer}: its input is not int8")
    _check_steps(layer, "input", [_number(source.args[1])])
    if not isinstance(weight, Node) or weight.target is not _BY_CHANNEL:
        raise EdgeError(f"layer {layer}: its weights are not int8")
    whole, steps = (values[part.name] for part in weight.args[:2] if isinstance(part, Node))
    assert isinstance(whole, Tensor)
    assert isinstance(steps, Tensor)
    largest = int(whole.int().abs().max())
    if largest > WEIGHT_LIMIT:
        raise EdgeError(f"layer {layer}: a weight of {largest} steps exceeds 7 bits ({WEIGHT_LIMIT})")
    _check_steps(layer, "weights", steps.flatten().tolist())
    (reader,) = node.users if len(node.users) == 1 else (None,)
    if reader is not None and reader.target is _aten.relu.default:
        (reader,) = reader.users if len(reader.users) == 1 else (None,)
    if reader is None or reader.target is not _QUANTIZE:
        raise EdgeError(f"layer {layer}: its output is not quantized")
    _check_steps(layer, "output", [_number(reader.args[1])])


def _number(value: object) -> float:
    assert isinstance(value, float | int)
    return float(value)


def _check_steps(layer: str, what: str, steps: list[float]) -> None:
    for step in steps:
        if not (math.isfinite(step) and step > 0 and math.frexp(step)[0] == 0.5):
            raise EdgeError(f"layer {layer}: the step of its {what}, {step:g}, is no power of two")
