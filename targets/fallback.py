"""What an artefact leaves to slower kernels: read from the artefact itself.

ExecuTorch: the calls of portable kernels beside the calls of the XNNPACK delegate. ONNX Runtime: the operators of the
graph that it runs after its own optimisation, without those that only move or requantise data; in an int8 artefact
these are the ones that compute in float. Pooling, routing and the codebook search do so by design and are among them.
"""

import tempfile
from collections import Counter
from pathlib import Path

from edge_stscq.device import Bundle
from edge_stscq.errors import EdgeError, require
from quantization.quiet import quiet

_MOVES = {
    "Cast", "Concat", "Constant", "Expand", "Flatten", "Gather", "Identity", "Pad", "ReorderInput", "ReorderOutput",
    "Reshape", "Shape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze",
}  # fmt: skip
_INTEGER = {"QuantizeLinear", "DequantizeLinear", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear", "QGemm"}


def fell_back(bundle: Bundle) -> dict[str, int] | None:
    """Operators outside the delegate or, for ONNX, in float, and how many of each; None where nothing can fall back.

    That is so for an fp32 artefact in ONNX Runtime and for a Core ML artefact, whose reference executor has no delegate
    and whose real runtime does not tell.

    Raises:
        MissingExtraError: what reads the artefact is not installed.
        EdgeError: the artefact is damaged.
    """
    if bundle.manifest.target == "executorch":
        return _outside_delegate(bundle.read(bundle.manifest.artefact))
    if bundle.manifest.target == "onnx" and bundle.manifest.precision == "int8":
        return _in_float(bundle.read(bundle.manifest.artefact), bundle.manifest.exact)
    return None


def _outside_delegate(data: bytes) -> dict[str, int]:
    with quiet():
        reader = require("executorch.exir._serialize._program", "executorch")
        schema = require("executorch.exir.schema", "executorch")
    try:
        program = reader.deserialize_pte_binary(data).program
    except Exception as error:  # ExecuTorch's reader raises bare exceptions
        raise EdgeError(f"the .pte cannot be read ({error}); export the bundle again") from error
    counts: Counter[str] = Counter()
    for plan in program.execution_plan:
        for chain in plan.chains:
            calls = [step.instr_args for step in chain.instructions if isinstance(step.instr_args, schema.KernelCall)]
            counts.update(plan.operators[call.op_index].name.removeprefix("aten::") for call in calls)
    return dict(sorted(counts.items()))


def _in_float(data: bytes, exact: bool) -> dict[str, int]:
    ort, onnx = require("onnxruntime", "onnx"), require("onnx", "onnx")
    with tempfile.TemporaryDirectory() as scratch:
        optimised = Path(scratch) / "optimised.onnx"
        options = ort.SessionOptions()
        if not exact:
            options.add_session_config_entry("session.x64quantprecision", "1")
        options.log_severity_level = 3
        options.optimized_model_filepath = str(optimised)
        try:
            ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions have no common type
            raise EdgeError(f"the .onnx cannot be read ({error}); export the bundle again") from error
        nodes = onnx.load(optimised).graph.node
    kinds = (node.op_type for node in nodes)
    counts = Counter(kind for kind in kinds if not kind.startswith("QLinear") and kind not in _MOVES | _INTEGER)
    return dict(sorted(counts.items()))
