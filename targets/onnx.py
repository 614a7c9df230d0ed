"""ONNX Runtime: one self-contained file in QDQ form.

int8 travels as QuantizeLinear and DequantizeLinear around float operators; ONNX Runtime fuses them into integer kernels
when it loads the file. Three things are done to what torch writes:

- zero points and scales that several operators share are given to each of them, since ONNX Runtime can only switch to
  its exact integer kernels on x86 (`session.x64quantprecision`) where they are not shared;
- source locations and other notes of the exporter are dropped: they name files of the machine that exported;
- the file is checked, and refused if it refers to data outside itself.
"""

import io
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_stscq._files import write_file
from edge_stscq._quiet import silence_exporters
from edge_stscq.bundle import Bundle
from edge_stscq.bundle.manifest import RuntimeRange
from edge_stscq.device.runtimes import onnx as runtime
from edge_stscq.errors import EdgeError, require
from targets.base import GROUP, IMAGE, TOKENS, Target

if TYPE_CHECKING:
    from torch.export import ExportedProgram

OPSET = 20

_MOVES = {
    "Cast", "Concat", "Constant", "Expand", "Flatten", "Gather", "Identity", "Pad", "ReorderInput", "ReorderOutput",
    "Reshape", "Shape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze",
}  # fmt: skip
_INTEGER = {"QuantizeLinear", "DequantizeLinear", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear", "QGemm"}
_EXACT_MOVES = {"Slice", "Transpose", "Reshape", "Relu"}
"""Between a convolution and the quantization beside it."""


@dataclass(frozen=True)
class OnnxTarget(Target):
    """ONNX Runtime's QDQ form."""

    def lower(self, program: "ExportedProgram", path: Path) -> None:
        """Write the graph as a single `.onnx` file.

        Raises:
            EdgeError: an operator has no ONNX form, or the file is not valid.
        """
        torch, onnx = require("torch", "onnx"), require("onnx", "onnx")
        with silence_exporters(), redirect_stdout(io.StringIO()):
            try:
                exported = torch.onnx.export(
                    program, (), dynamo=True, verbose=False, opset_version=OPSET, external_data=False,
                    input_names=[IMAGE], output_names=[GROUP, TOKENS],
                )  # fmt: skip
            except torch.onnx.OnnxExporterError as error:
                raise EdgeError(f"the graph does not convert to ONNX: {_last_line(error)}") from error
        model = exported.model_proto
        _own_quantization_parameters(model)
        _drop_notes(model)
        if any(tensor.external_data for tensor in model.graph.initializer):
            raise EdgeError("the ONNX file would need data outside itself; make the model smaller than 2 GB")
        try:
            onnx.checker.check_model(model, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise EdgeError(f"the converted ONNX graph is not valid: {_last_line(error)}") from error
        write_file(path, model.SerializeToString(deterministic=True))

    def check_exact(self, path: Path) -> None:
        """Refuse a file with a convolution that is not between DequantizeLinear and QuantizeLinear with steps of powers
        of two, or that ONNX Runtime leaves in float when it has optimized it."""
        onnx = require("onnx", "onnx")
        _check_convolutions(onnx.load(path).graph, onnx.numpy_helper.to_array)
        left = [kind for kind in _in_float(path.read_bytes(), exact=True) if "Conv" in kind]
        if left:
            raise EdgeError(
                f"ONNX Runtime computes a {left[0]} in floating point; the artefact is not made for integers"
            )

    def delegation(self, bundle: Bundle) -> dict[str, int] | None:
        """Operators that an int8 artifact computes in float.

        They are those of the graph that ONNX Runtime runs after its own optimization, without those that only move or
        requantize data. Pooling, routing and the codebook search do so by design and are among them.
        """
        if bundle.manifest.precision != "int8":
            return None
        return _in_float(bundle.read(bundle.manifest.artefact), bundle.manifest.exact)


def _own_quantization_parameters(model: Any) -> None:
    """Copy constants that several DequantizeLinear nodes read, so that each node has its own."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    uses = Counter(name for node in model.graph.node for name in node.input)
    for node in model.graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] not in constants:
            continue
        for index, name in enumerate(node.input):
            if name in constants and uses[name] > 1:
                own = model.graph.initializer.add()
                own.CopyFrom(constants[name])
                own.name = node.input[index] = f"{node.output[0]}.{index}"
                uses[name] -= 1


def _drop_notes(model: Any) -> None:
    del model.metadata_props[:]
    for item in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del item.metadata_props[:]
        item.doc_string = ""
    for tensor in model.graph.initializer:
        del tensor.metadata_props[:]


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _in_float(data: bytes, exact: bool) -> dict[str, int]:
    ort, onnx = require("onnxruntime", "onnx"), require("onnx", "onnx")
    with tempfile.TemporaryDirectory() as scratch:
        optimized = Path(scratch) / "optimised.onnx"
        options = ort.SessionOptions()
        if not exact:
            options.add_session_config_entry("session.x64quantprecision", "1")
        options.log_severity_level = 3
        options.optimized_model_filepath = str(optimized)
        try:
            ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions have no common type
            raise EdgeError(f"the .onnx cannot be read ({error}); export the bundle again") from error
        nodes = onnx.load(optimized).graph.node
    kinds = (node.op_type for node in nodes)
    counts = Counter(kind for kind in kinds if not kind.startswith("QLinear") and kind not in _MOVES | _INTEGER)
    return dict(sorted(counts.items()))


def _check_convolutions(graph: Any, to_array: Callable[[Any], NDArray[Any]]) -> None:
    """Refuse the first convolution whose weight, input or output is not int8 with steps of powers of two."""
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
        steps = to_array(constants[node.input[1]])
        if not ((steps > 0) & (np.frexp(steps)[0] == 0.5)).all():
            raise EdgeError(f"layer {layer}: a step of its {what} is no power of two in the .onnx")

    for node in graph.node:
        if node.op_type != "Conv":
            continue
        weight = made.get(node.input[1])
        layer = (weight.input[0] if weight is not None else node.input[1]).removesuffix(".weight")
        check_steps(layer, "weight", weight, "DequantizeLinear")
        source = made.get(node.input[0])
        while source is not None and source.op_type in _EXACT_MOVES:
            source = made.get(source.input[0])
        check_steps(layer, "input", source, "DequantizeLinear")
        reader = node
        while reader is node or (reader is not None and reader.op_type in _EXACT_MOVES):
            users = read.get(reader.output[0], [])
            reader = users[0] if len(users) == 1 else None
        check_steps(layer, "output", reader, "QuantizeLinear")


TARGET = OnnxTarget(
    title="ONNX",
    artefact="encoder.onnx",
    description="ONNX Runtime: Linux, Windows, Android, iOS; a single QDQ file",
    aliases=("ort", "onnxruntime"),
    extra="onnx",
    packages=("torch", "onnx", "onnxscript", "onnxruntime"),
    runtime=runtime.RUNTIME,
    supported=RuntimeRange(package="onnxruntime", minimum="1.22", maximum_exclusive="2"),
    undelegated="operators in float",
)
