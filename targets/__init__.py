"""Targets of the export: one table, which drives validation, aliases, typo hints and the help text.

See `targets/base.py` for what a target is. Nothing here imports torch.
"""

from difflib import get_close_matches

from edge_stscq.codec.config import CROP
from edge_stscq.device.manifest import RuntimeRange, TensorSpec
from edge_stscq.errors import EdgeError
from targets.base import IMAGE, Target

__all__ = ["ALL", "TARGETS", "Target", "find"]

ALL = "all"
"""The word that stands for every row of the table."""

TARGETS = (
    Target(
        name="onnx",
        artefact="encoder.onnx",
        description="ONNX Runtime: Linux, Windows, Android, iOS; a single QDQ file",
        aliases=("ort", "onnxruntime"),
        extra="onnx",
        packages=("torch", "onnx", "onnxscript", "onnxruntime"),
        runtime=RuntimeRange(package="onnxruntime", minimum="1.22", maximum_exclusive="2"),
    ),
    Target(
        name="executorch",
        artefact="encoder.pte",
        description="ExecuTorch with XNNPACK: Android, iOS, Linux on Arm",
        aliases=("pte", "et", "xnnpack"),
        extra="executorch",
        packages=("torch", "executorch"),
        runtime=RuntimeRange(package="executorch", minimum="1.5", maximum_exclusive="1.7"),
        precisions=("int8", "fp32"),  # XNNPACK's convolutions take int8 weights with int8 activations only
        signed=True,
    ),
    Target(
        name="coreml",
        artefact="encoder.mlpackage",
        description="Core ML: iOS 17, macOS 14 and later; converts on Linux, runs on macOS",
        aliases=("mlmodel", "mlpackage", "apple", "ios", "macos"),
        extra="coreml",
        packages=("torch", "coremltools"),
        runtime=RuntimeRange(package="coremltools", minimum="9.0", maximum_exclusive="10"),
        image=TensorSpec(  # Core ML has no uint8 tensors
            name=IMAGE, shape=(1, CROP, CROP, 3), dtype="int32", description="canonical crop, RGB, 0..255"
        ),
        signed=True,
    ),
)


def find(name: str) -> tuple[Target, ...]:
    """Rows that `name` stands for: a target, one of its aliases, or `all`; upper and lower case are the same.

    Raises:
        EdgeError: no row has that name; the message lists the names and the closest match.
    """
    wanted = name.strip().lower()
    if wanted == ALL:
        return TARGETS
    names = {word: target for target in TARGETS for word in (target.name, *target.aliases)}
    if wanted in names:
        return (names[wanted],)
    known = ", ".join([target.name for target in TARGETS] + [ALL])
    close = get_close_matches(wanted, [*names, ALL], n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise EdgeError(f"unknown target {name!r}{hint} (targets: {known})")
