"""An encoder tried in a process of its own: does it still answer as at export, and how much memory does it take?

    python -m edge_stscq.evaluation.encode_trial bundle|student|teacher FOLDER ANSWER.json

Memory is the most that the process had in use at a time, the interpreter included. What was in use when the runtime had
been imported and nothing was loaded yet is given beside it, since ExecuTorch's Python runtime brings torch with it.
"""

import json
import resource
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from edge_stscq.errors import EdgeError

RUNTIMES = {
    "onnx": ("onnxruntime",),
    "executorch": ("torch", "executorch.extension.pybindings._C"),
    "coreml": ("coremltools",) if sys.platform == "darwin" else ("coremltools", "targets.reference"),
}
"""What loading an artefact imports."""


class Trial(BaseModel):
    """What the fresh process found. Memory is in MiB."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    runtime: str
    difference: str | None = None
    """The first golden answer that is wrong."""
    before_mib: float
    peak_mib: float


def of_bundle(folder: Path) -> Trial:
    """Replay the golden pictures of a bundle on one thread."""
    from edge_stscq.device import open_bundle, selftest
    from targets.check import open_encoder

    bundle = open_bundle(folder)
    for module in RUNTIMES[bundle.manifest.target]:
        import_module(module)
    before = peak_mib()
    encoder = open_encoder(bundle, threads=1, verify=False)
    result = selftest(bundle, encoder)
    difference = None if result.first is None else str(result.first)
    return Trial(runtime=encoder.runtime, difference=difference, before_mib=before, peak_mib=peak_mib())


def of_module(folder: Path, name: str) -> Trial:
    """Run the "student" or "teacher" of a model folder in torch, on one thread."""
    import torch

    from edge_stscq.codec import store
    from edge_stscq.codec.config import CROP

    torch.set_num_threads(1)
    before = peak_mib()
    encoder = {"student": store.load_student, "teacher": store.load_teacher}[name](folder)
    with torch.inference_mode():
        encoder(torch.from_numpy(np.zeros((1, CROP, CROP, 3), np.uint8)))
    return Trial(runtime=f"torch {torch.__version__}", before_mib=before, peak_mib=peak_mib())


def peak_mib() -> float:
    """The most memory that this process had in use so far."""
    try:  # Linux counts what the parent used before it became this process into `ru_maxrss`
        lines = Path("/proc/self/status").read_text().splitlines()
        kib = next(float(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        kib = used / 1024 if sys.platform == "darwin" else used
    return round(kib / 1024, 1)


def main(what: str, folder: Path, answer: Path) -> None:
    trial = of_bundle(folder) if what == "bundle" else of_module(folder, what)
    answer.write_text(json.dumps(trial.model_dump()))


if __name__ == "__main__":
    try:
        main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
    except EdgeError as error:
        sys.exit(f"error: {error}")
