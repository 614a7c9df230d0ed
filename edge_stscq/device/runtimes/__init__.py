"""Runtimes: one module each, and one table. A runtime is imported when a bundle needs it."""

from edge_stscq.bundle.bundle import Bundle
from edge_stscq.device.runtimes import coreml, executorch, onnx
from edge_stscq.device.runtimes.base import Outputs, Runner, Runtime, installed_version
from edge_stscq.errors import BundleError

__all__ = ["RUNTIMES", "Outputs", "Runner", "Runtime", "installed_version", "runtime_of"]

RUNTIMES: tuple[Runtime, ...] = (onnx.RUNTIME, executorch.RUNTIME, coreml.RUNTIME)


def runtime_of(bundle: Bundle) -> Runtime:
    """The runtime of a bundle's target.

    Raises:
        BundleError: this version of the program has none.
    """
    target = bundle.manifest.target
    for runtime in RUNTIMES:
        if runtime.target == target:
            return runtime
    known = ", ".join(runtime.target for runtime in RUNTIMES)
    raise BundleError(f"{bundle.folder} is for {target!r}, this version runs {known}; upgrade edge-stscq")
