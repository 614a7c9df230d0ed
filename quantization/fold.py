"""Constant folding: what a graph would compute from its parameters alone is computed once, before it is lowered.

Runtimes differ in how much of this they do themselves (ONNX Runtime all of it, ExecuTorch none), so it is done for all
of them here. Dequantisation is left in place: folded, an int8 weight would be a float again.

Values are computed in float64 and rounded once: exponentials in float32 differ between processors in the last bit, and
the bytes of an export must not.
"""

import operator
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg


def fold_constants(module: GraphModule) -> None:
    """Replace every operator that depends on no input of the graph by a buffer that holds its value."""
    values: dict[Node, Any] = {}
    for node in module.graph.nodes:
        if node.op == "get_attr":
            values[node] = operator.attrgetter(node.target)(module)
        elif node.op == "call_function" and _foldable(node) and all(i in values for i in node.all_input_nodes):
            args, kwargs = map_arg((node.args, node.kwargs), lambda argument: _widened(values[argument]))
            values[node] = node.target(*args, **kwargs)
    for index, (node, value) in enumerate(values.items()):
        used = any(user not in values for user in node.users)
        if node.op == "call_function" and used and isinstance(value, Tensor):
            name = f"folded_{index}"
            module.register_buffer(name, value.detach().to(node.meta["val"].dtype).contiguous())
            with module.graph.inserting_before(node):
                constant = module.graph.get_attr(name)
            constant.meta = dict(node.meta)
            node.replace_all_uses_with(constant)
    module.graph.eliminate_dead_code()
    module.recompile()


def _foldable(node: Node) -> bool:
    return "dequantize" not in str(node.target) and node.target is not torch.ops.aten._assert_tensor_metadata.default


def _widened(value: Any) -> Any:
    """A float32 tensor as float64; anything else as it is."""
    return value.double() if isinstance(value, Tensor) and value.dtype == torch.float32 else value
