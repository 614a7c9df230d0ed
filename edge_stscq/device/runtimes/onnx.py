"""ONNX Runtime."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_stscq.bundle.bundle import Bundle
from edge_stscq.bundle.manifest import REEXPORT_HINT, TensorSpec
from edge_stscq.device.runtimes.base import Outputs, Runner, Runtime, unloadable
from edge_stscq.errors import BundleError, require

_TYPES = {"uint8": "tensor(uint8)", "int32": "tensor(int32)", "int64": "tensor(int64)", "float32": "tensor(float)"}


@dataclass(frozen=True)
class OnnxRuntime(Runtime):
    """One session on the CPU; int8 by its exact kernels."""

    def load(self, bundle: Bundle, threads: int) -> Runner:
        ort = require("onnxruntime", "onnx")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        # without it, processors that lack VNNI saturate 16-bit sums and answer with other tokens
        if not bundle.manifest.exact:  # whose weights have 7 bits for it
            options.add_session_config_entry("session.x64quantprecision", "1")
        if bundle.manifest.precision == "w8":  # dequantize weights once, when the session is made
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        options.log_severity_level = 3
        data = bundle.read(bundle.manifest.artefact)
        try:
            session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions have no common type
            raise unloadable(bundle, error) from error
        given = [(node.name, node.type, tuple(node.shape)) for node in (*session.get_inputs(), *session.get_outputs())]
        specs: tuple[TensorSpec, ...] = bundle.manifest.inputs + bundle.manifest.outputs
        if given != [(spec.name, _TYPES[spec.dtype], spec.shape) for spec in specs]:
            raise BundleError(f"{bundle.artefact}: inputs and outputs are not the manifest's; {REEXPORT_HINT}")
        image, group, tokens = (spec.name for spec in specs)

        def run(picture: NDArray[np.uint8]) -> Outputs:
            first, second = session.run([group, tokens], {image: picture})
            return first, second

        return run


RUNTIME = OnnxRuntime(
    target="onnx", title="ONNX Runtime", package="onnxruntime", install="edge-stscq", modules=("onnxruntime",)
)
