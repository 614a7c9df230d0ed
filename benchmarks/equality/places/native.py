"""ONNX Runtime and ExecuTorch on the processor of this machine, and Core ML's program in the reference executor."""

import platform
from functools import partial
from pathlib import Path

from benchmarks.equality.places.base import Place, python_worker

_FEATURES = ("amx_int8", "avx512_vnni", "avx_vnni", "avx512f", "avx2", "avx", "i8mm", "asimddp", "asimd")
"""Integer arithmetic that decides which kernels a runtime takes, as /proc/cpuinfo calls it, the best first."""


def feature(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The best of them that this processor has, e.g. "avx512_vnni"; the machine's architecture if none is known."""
    try:
        words = set(cpuinfo.read_text().split())
    except OSError:
        words = set()
    return next((name for name in _FEATURES if name in words), platform.machine())


_HERE = feature()
PLACES = (
    Place(
        name=f"onnx-{_HERE}",
        title=f"ONNX Runtime, {platform.machine()} with {_HERE}",
        target="onnx",
        worker=partial(python_worker, target="onnx"),
    ),
    Place(
        name=f"executorch-{_HERE}",
        title=f"ExecuTorch, {platform.machine()} with {_HERE}",
        target="executorch",
        worker=partial(python_worker, target="executorch"),
    ),
    Place(
        name="coreml-reference",
        title="Core ML's program, reference executor",
        target="coreml",
        worker=partial(python_worker, target="coreml"),
        measured=True,
    ),
)
