"""Core ML, on macOS."""

import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_stscq.bundle.bundle import Bundle
from edge_stscq.device.runtimes.base import Outputs, Runner, Runtime, unloadable
from edge_stscq.errors import require


@dataclass(frozen=True)
class CoreMlRuntime(Runtime):
    """Core ML through coremltools. The threads of an inference are its own choice."""

    def unavailable(self) -> str | None:
        if sys.platform == "darwin":
            return None
        return (
            "a Core ML artefact runs on macOS only; here use `edge-stscq selftest` or `edge-stscq parity`, "
            "which execute it with the reference executor, or encode with the ONNX bundle"
        )

    def load(self, bundle: Bundle, threads: int) -> Runner:
        coremltools = require("coremltools", "coreml")
        try:
            model = coremltools.models.MLModel(str(bundle.artefact))
        except Exception as error:  # coremltools raises bare exceptions
            raise unloadable(bundle, error) from error
        (image,) = bundle.manifest.inputs
        group, tokens = bundle.manifest.outputs

        def run(picture: NDArray[np.uint8]) -> Outputs:
            outputs = model.predict({image.name: picture.astype(image.dtype)})
            return outputs[group.name], outputs[tokens.name]

        return run


RUNTIME = CoreMlRuntime(
    target="coreml",
    title="Core ML",
    package="coremltools",
    install="edge-stscq[coreml]",
    modules=("coremltools",),
    compiled_module="coremltools.libmilstoragepython",
)
