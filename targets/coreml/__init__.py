"""Core ML: an `.mlpackage` for iOS 17 and macOS 14, converted on any platform, run by Core ML on Apple's.

int8 comes in as the quantize and dequantize operators of the exported program. coremltools turns weights into
`constexpr_affine_dequantize` (int8 with one scale for each output channel) and activations into pairs of `quantize` and
`dequantize`. Everything else computes in float32: tokens near a tie do not survive float16. The price is that the
Neural Engine, which computes in float16, is not used.

Core ML has no uint8 tensors. The input is int32 [1, 128, 128, 3] holding 0..255: values stay exact, the layout stays
that of the other targets, no colour management comes between, and a picture already scaled to 0..1 does not fit in.

Off macOS Core ML does not run; a reference executor then gives the answers of the saved package.

    package.py     the folder: model, weights and a list of its items, written reproducibly
    program.py     model and weights -> typed operations and numpy arrays
    operators.py   type of an operation -> its meaning in numpy
    reference.py   runs the program
"""

import io
import sys
import tempfile
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_stscq._quiet import silence_exporters
from edge_stscq.bundle import Bundle
from edge_stscq.bundle.manifest import RuntimeRange, TensorSpec
from edge_stscq.config.codec import CROP
from edge_stscq.device.runtimes import Runner
from edge_stscq.device.runtimes import coreml as runtime
from edge_stscq.errors import EdgeError, require
from targets.base import GROUP, IMAGE, TOKENS, ReferenceExecutor, Target

if TYPE_CHECKING:
    from torch.export import ExportedProgram


@dataclass(frozen=True)
class CoreMlReference(ReferenceExecutor):
    """Runs the saved package's MIL program operation by operation."""

    def load(self, bundle: Bundle) -> Runner:
        from targets.coreml.reference import load

        return load(bundle.artefact).run


@dataclass(frozen=True)
class CoreMlTarget(Target):
    """An ML program of iOS 17 and macOS 14. It has no delegate that says what falls back."""

    def lower(self, program: "ExportedProgram", path: Path) -> None:
        """Write the package of the graph at `path`; the same graph gives the same bytes.

        Raises:
            EdgeError: an operator has no Core ML form, or the package cannot be written.
            MissingExtraError: coremltools is not installed.
        """
        from targets.coreml.package import write_package

        progress_bars = io.StringIO()
        with silence_exporters(), redirect_stderr(progress_bars), tempfile.TemporaryDirectory() as scratch:
            ct = import_coremltools()
            _divide_exactly()
            try:
                model = ct.convert(
                    _with_integer_image(program),
                    source="pytorch",
                    convert_to="mlprogram",
                    minimum_deployment_target=ct.target.iOS17,
                    compute_precision=ct.precision.FLOAT32,
                    outputs=[ct.TensorType(name=GROUP), ct.TensorType(name=TOKENS)],
                    package_dir=str(Path(scratch) / "converted.mlpackage"),
                    skip_model_load=True,
                )
            except Exception as error:  # coremltools' converters raise bare exceptions
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                model = None  # chaining the error would keep the converter's temporary folder alive
            if model is None:
                raise EdgeError(f"the graph does not convert to Core ML: {reason}")
            write_package(model.get_spec(), Path(model.weights_dir) / "weight.bin", path)


def import_coremltools() -> Any:
    """coremltools, imported as if scikit-learn were absent, unless that was imported before.

    It would import that, scipy's statistics and pandas, a quarter of its time, to convert models that no encoder is.

    Raises:
        MissingExtraError: coremltools is not installed.
    """
    if "sklearn" in sys.modules:
        return require("coremltools", "coreml")
    sys.modules["sklearn"] = None  # type: ignore[assignment]
    try:
        return require("coremltools", "coreml")
    finally:
        del sys.modules["sklearn"]


def _with_integer_image(program: "ExportedProgram") -> "ExportedProgram":
    """A copy of `program` whose input is declared as int32 instead of uint8; the graph casts it to float anyway."""
    import torch

    copy: ExportedProgram = program.run_decompositions({})
    (name,) = copy.graph_signature.user_inputs
    (image,) = (node for node in copy.graph.nodes if node.op == "placeholder" and node.name == name)
    image.meta["val"] = image.meta["val"].to(torch.int32)
    return copy


def _divide_exactly() -> None:
    """Convert the reciprocal as 1 / x. coremltools' own conversion is MIL's `inverse`, 1 / (x + 0.0001)."""
    from coremltools.converters.mil import Builder, register_torch_op

    def reciprocal(context: Any, node: Any) -> None:
        context.add(Builder.real_div(x=1.0, y=context[node.inputs[0]], name=node.name))

    register_torch_op(reciprocal, override=True)


TARGET = CoreMlTarget(
    title="Core ML",
    artefact="encoder.mlpackage",
    description="Core ML: iOS 17, macOS 14 and later; converts on Linux, runs on macOS",
    aliases=("mlmodel", "mlpackage", "apple", "ios", "macos"),
    extra="coreml",
    packages=("torch", "coremltools"),
    runtime=runtime.RUNTIME,
    supported=RuntimeRange(package="coremltools", minimum="9.0", maximum_exclusive="10"),
    image=TensorSpec(  # Core ML has no uint8 tensors
        name=IMAGE, shape=(1, CROP, CROP, 3), dtype="int32", description="canonical crop, RGB, 0..255"
    ),
    signed=True,
    reference=CoreMlReference(
        title="reference executor (Core ML runs on macOS only)",
        modules=("coremltools", "targets.coreml.reference"),
        needs_torch=True,
    ),
)
