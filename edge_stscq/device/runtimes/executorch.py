"""ExecuTorch's Python runtime."""

import platform
import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_stscq._quiet import silence_native
from edge_stscq.bundle.bundle import Bundle
from edge_stscq.device.runtimes.base import Outputs, Runner, Runtime, unloadable
from edge_stscq.errors import EdgeError, MissingExtraError, require

_NATIVE = "executorch.extension.pybindings._C"
"""`executorch.runtime` would be the front door to the same functions, but imports the whole exporter: eight seconds of
processor time instead of two."""


@dataclass(frozen=True)
class ExecuTorchRuntime(Runtime):
    """The Python runtime takes torch's tensors; on a phone there is no torch. Its threads are the process's."""

    def set_threads(self, threads: int) -> None:
        require(_NATIVE, "executorch")._unsafe_reset_threadpool(threads)

    def load(self, bundle: Bundle, threads: int) -> Runner:
        try:
            torch = require("torch", "executorch")
            with silence_native():
                native = require(_NATIVE, "executorch")
        except MissingExtraError:
            if (sys.platform, platform.machine()) != ("linux", "aarch64"):
                raise
            raise EdgeError(
                "on Arm Linux ExecuTorch's Python module needs a torch built for CUDA, which no extra brings; "
                "use the ONNX bundle here, or ExecuTorch's C++ runtime (docs/equality.md)"
            ) from None
        data = bundle.read(bundle.manifest.artefact)
        try:
            with silence_native():
                program = native._load_program_from_buffer(
                    data, program_verification=native.Verification.InternalConsistency
                )
                method = program.load_method("forward")
        except RuntimeError as error:
            raise unloadable(bundle, error) from error
        memory = (data, program)  # the method reads its weights from there and does not keep them

        def run(picture: NDArray[np.uint8], memory: object = memory) -> Outputs:
            group, tokens = method([torch.from_numpy(picture.copy())])
            return group.numpy().copy(), tokens.numpy().copy()

        return run


RUNTIME = ExecuTorchRuntime(
    target="executorch",
    title="ExecuTorch",
    package="executorch",
    install="edge-stscq[executorch]",
    modules=("torch", _NATIVE),
    compiled_module=_NATIVE,
    needs_torch=True,
)
