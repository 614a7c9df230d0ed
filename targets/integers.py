"""A student made for integers, ready to be lowered, and what its artefacts must be like.

Its graph is written with signed or with unsigned activations, as the target's kernels like it. Whole numbers say what
the golden pictures must give, so there are no ties: every runtime gives exactly these tokens, or the artefact is wrong.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_stscq.errors import EdgeError, require
from targets import golden
from targets.base import Prediction

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from edge_stscq.codec.integer_encoder import IntegerEncoder

SCHEME = (
    "trained in integers: activations on 8-bit grids, weights within 7 bits with one step for each channel, every step "
    "a power of two, biases and sums in int32; codebook search in whole numbers"
)
NO_WEIGHT_ONLY = "this student was made for integers and has no w8; choose --precision int8 or fp32"
_MOVES = {"Slice", "Transpose", "Reshape", "Relu"}
_BATCH = 8


@dataclass(frozen=True, eq=False)
class IntegerSource:
    """The graphs of an integer student and its golden pictures.

    Attributes:
        unsigned, signed: the same graph with activations unsigned or signed.
        images: golden pictures uint8 [G, 128, 128, 3].
        expected: what whole numbers give for them.
    """

    unsigned: "ExportedProgram"
    signed: "ExportedProgram"
    images: NDArray[np.uint8]
    expected: Prediction


def capture(student: "IntegerEncoder", books: NDArray[np.float32]) -> IntegerSource:
    """Write the student's graph both ways, check it and run it on the golden pictures.

    Args:
        books: codebooks float32 [M, T, K, D].

    Raises:
        EdgeError: a layer or operator that is not exact, by name; or a graph that differs from whole numbers.
    """
    import torch

    from quantization.graph import captured_graph
    from quantization.integer_check import check_exact
    from quantization.integer_graph import IntegerGraph, integer_program, run_program

    program = integer_program(student)
    graphs = [captured_graph(IntegerGraph(program, signed).eval()) for signed in (False, True)]

    def look(pictures: NDArray[np.uint8]) -> golden.View:
        parts = [student.analyse(torch.from_numpy(part)) for part in np.array_split(pictures, len(pictures) // _BATCH)]
        logits, group, z = (
            np.concatenate([getattr(part, name).numpy() for part in parts]) for name in ("group_logits", "group", "z")
        )
        return golden.view(logits, group, z, books)

    images = golden.choose(look, student.config.groups, unsure=0.0).images
    expected = Prediction(*run_program(program, images))
    for graph in graphs:
        check_exact(graph)
        module = graph.module()
        answers = [module(torch.from_numpy(image)[None]) for image in images]
        groups, tokens = (torch.cat(part).numpy() for part in zip(*answers, strict=True))
        if not Prediction(groups, tokens).equals(expected):
            raise EdgeError("the graph gives other tokens than whole numbers do; this is a fault of the program")
    return IntegerSource(graphs[0], graphs[1], images, expected)


def check_artefact(target: str, path: Path) -> None:
    """Refuse an artefact in which a convolution is computed in floating point.

    Raises:
        EdgeError: the message names the layer or the operator.
    """
    if target in _CHECKS:
        _CHECKS[target](path)


def _check_onnx(path: Path) -> None:
    """Every convolution of the file stands between DequantizeLinear and QuantizeLinear with steps of powers of two,
    and none is left in floating point when ONNX Runtime has optimized it."""
    from targets.fallback import _in_float

    onnx = require("onnx", "onnx")
    graph = onnx.load(path).graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    made = {output: node for node in graph.node for output in node.output}
    read: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            read.setdefault(name, []).append(node)

    def check_steps(layer: str, what: str, node: Any, kind: str) -> None:
        if node is None or node.op_type != kind:
            raise EdgeError(f"layer {layer}: its {what} is not int8 in the .onnx")
        if node.input[1] not in constants:
            raise EdgeError(f"layer {layer}: the step of its {what} is not a constant of the .onnx")
        steps = onnx.numpy_helper.to_array(constants[node.input[1]])
        if not ((steps > 0) & (np.frexp(steps)[0] == 0.5)).all():
            raise EdgeError(f"layer {layer}: a step of its {what} is no power of two in the .onnx")

    for node in graph.node:
        if node.op_type != "Conv":
            continue
        weight = made.get(node.input[1])
        layer = (weight.input[0] if weight is not None else node.input[1]).removesuffix(".weight")
        check_steps(layer, "weight", weight, "DequantizeLinear")
        source = made.get(node.input[0])
        while source is not None and source.op_type in _MOVES:
            source = made.get(source.input[0])
        check_steps(layer, "input", source, "DequantizeLinear")
        reader = node
        while reader is node or (reader is not None and reader.op_type in _MOVES):
            users = read.get(reader.output[0], [])
            reader = users[0] if len(users) == 1 else None
        check_steps(layer, "output", reader, "QuantizeLinear")
    left = [kind for kind in _in_float(path.read_bytes(), exact=True) if "Conv" in kind]
    if left:
        raise EdgeError(f"ONNX Runtime computes a {left[0]} in floating point; the artefact is not made for integers")


def _check_executorch(path: Path) -> None:
    """No convolution stays outside the delegate."""
    from targets.fallback import _outside_delegate

    left = [kind for kind in _outside_delegate(path.read_bytes()) if "conv" in kind]
    if left:
        raise EdgeError(f"XNNPACK leaves {left[0]} to a kernel outside it; the artefact is not made for integers")


_CHECKS: dict[str, Callable[[Path], None]] = {"onnx": _check_onnx, "executorch": _check_executorch}
