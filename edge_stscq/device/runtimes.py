"""Runtimes: the one file of the device that knows ONNX Runtime, ExecuTorch and Core ML.

A runtime is a function from a bundle to a `Runner`, a callable from one picture to the artefact's two outputs. It is
imported when a bundle needs it, and only after its installed version was held against the manifest: a .pte is promised
to load in the next release only, and a runtime that is too new may answer with other tokens instead of failing.
"""

import sys
from collections.abc import Callable
from importlib import metadata

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_stscq.device.bundle import Bundle
from edge_stscq.device.manifest import AGAIN, TensorSpec
from edge_stscq.errors import BundleError, EdgeError, MissingExtraError, require

Outputs = tuple[ArrayLike, ArrayLike]
Runner = Callable[[NDArray[np.uint8]], Outputs]
"""uint8 `[1, 128, 128, 3]` to the group and the `T` tokens, with or without the batch dimension."""

INSTALL = {"onnx": "edge-stscq", "executorch": "edge-stscq[executorch]", "coreml": "edge-stscq[coreml]"}
ONNX_TYPES = {"uint8": "tensor(uint8)", "int32": "tensor(int32)", "int64": "tensor(int64)", "float32": "tensor(float)"}


def load_runner(bundle: Bundle, threads: int) -> Runner:
    """Load the artefact into its runtime.

    Args:
        threads: threads of one inference, 0 for the runtime's own choice. ExecuTorch always chooses itself.

    Raises:
        MissingExtraError: the runtime is not installed.
        BundleError: its version is outside the manifest's range, or it cannot load the artefact.
        EdgeError: the artefact does not run on this operating system.
    """
    target = bundle.manifest.target
    if target == "coreml" and sys.platform != "darwin":
        raise EdgeError(
            "a Core ML artefact runs on macOS only; here use `edge-stscq selftest` or `edge-stscq parity`, "
            "which execute it with the reference executor, or encode with the ONNX bundle"
        )
    runtime_version(bundle)
    runner: Runner = {"onnx": _onnx, "executorch": _executorch, "coreml": _coreml}[target](bundle, threads)
    return runner


def runtime_version(bundle: Bundle) -> str:
    """The installed runtime, once it is known to be in the manifest's range, e.g. "onnxruntime 1.31.1".

    Raises:
        MissingExtraError, BundleError: it is not installed, or not in range; the message holds the pip command.
    """
    runtime = bundle.manifest.runtime
    version = installed_version(runtime.package)
    if version is None:
        command = f"pip install '{INSTALL[bundle.manifest.target]}'"
        raise MissingExtraError(f"{runtime.package} is not installed; run: {command}")
    if not runtime.admits(version):
        raise BundleError(
            f"this bundle was made for {runtime.requirement}, installed is {version}; "
            f"run: pip install '{runtime.requirement}'"
        )
    return f"{runtime.package} {version}"


def installed_version(package: str) -> str | None:
    """Version of a package, also where another build provides it (`onnxruntime-gpu` provides `onnxruntime`)."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        builds = metadata.packages_distributions().get(package, [])
        return metadata.version(builds[0]) if builds else None


def _onnx(bundle: Bundle, threads: int) -> Runner:
    ort = require("onnxruntime", "onnx")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    # without it, processors that lack VNNI saturate 16-bit sums and answer with other tokens
    if not bundle.manifest.exact:  # whose weights have 7 bits for it
        options.add_session_config_entry("session.x64quantprecision", "1")
    if bundle.manifest.precision == "w8":  # dequantise weights once, when the session is made
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.log_severity_level = 3
    data = bundle.read(bundle.manifest.artefact)
    try:
        session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common type
        raise _unloadable(bundle, error) from error
    given = [(node.name, node.type, tuple(node.shape)) for node in (*session.get_inputs(), *session.get_outputs())]
    specs: tuple[TensorSpec, ...] = bundle.manifest.inputs + bundle.manifest.outputs
    if given != [(spec.name, ONNX_TYPES[spec.dtype], spec.shape) for spec in specs]:
        raise BundleError(f"{bundle.artefact}: inputs and outputs are not the manifest's; {AGAIN}")
    image, group, tokens = (spec.name for spec in specs)

    def run(picture: NDArray[np.uint8]) -> Outputs:
        first, second = session.run([group, tokens], {image: picture})
        return first, second

    return run


def _executorch(bundle: Bundle, threads: int) -> Runner:
    # The Python runtime takes torch's tensors; on a phone there is no torch. `executorch.runtime` would be the front
    # door to the same functions, but imports the whole exporter: eight seconds of processor time instead of two.
    torch = require("torch", "executorch")
    native = require("executorch.extension.pybindings._C", "executorch")
    data = bundle.read(bundle.manifest.artefact)
    try:
        program = native._load_program_from_buffer(data, program_verification=native.Verification.InternalConsistency)
        method = program.load_method("forward")
    except RuntimeError as error:
        raise _unloadable(bundle, error) from error
    memory = (data, program)  # the method reads its weights from there and does not keep them

    def run(picture: NDArray[np.uint8], memory: object = memory) -> Outputs:
        group, tokens = method([torch.from_numpy(picture.copy())])
        return group.numpy().copy(), tokens.numpy().copy()

    return run


def _coreml(bundle: Bundle, threads: int) -> Runner:
    coremltools = require("coremltools", "coreml")
    try:
        model = coremltools.models.MLModel(str(bundle.artefact))
    except Exception as error:  # coremltools raises bare exceptions
        raise _unloadable(bundle, error) from error
    (image,) = bundle.manifest.inputs
    group, tokens = bundle.manifest.outputs

    def run(picture: NDArray[np.uint8]) -> Outputs:
        outputs = model.predict({image.name: picture.astype(image.dtype)})
        return outputs[group.name], outputs[tokens.name]

    return run


def _unloadable(bundle: Bundle, error: Exception) -> BundleError:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return BundleError(f"{bundle.artefact} does not load ({reason}); {AGAIN}")
