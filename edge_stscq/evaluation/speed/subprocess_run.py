"""An encoder tried in a process of its own: does it still answer as at export, and how much memory does it take?

    python -m edge_stscq.evaluation.speed.subprocess_run bundle|student|teacher FOLDER ANSWER.json

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


class SubprocessMeasurement(BaseModel):
    """Measurement by a fresh process. Memory is in MiB."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    runtime: str
    difference: str | None = None
    """The first golden answer that is wrong."""
    before_mib: float
    peak_mib: float


def of_bundle(folder: Path) -> SubprocessMeasurement:
    """Replay the golden pictures of a bundle on one thread."""
    from edge_stscq.bundle import open_bundle, selftest
    from targets import target_of
    from targets.subprocess_check import load_encoder_or_reference

    bundle = open_bundle(folder)
    target = target_of(bundle)
    for module in (target.stand_in or target.runtime).modules:
        import_module(module)
    before = peak_mib()
    encoder = load_encoder_or_reference(bundle, threads=1, verify=False)
    result = selftest(bundle, encoder)
    difference = None if result.first is None else str(result.first)
    return SubprocessMeasurement(runtime=encoder.runtime, difference=difference, before_mib=before, peak_mib=peak_mib())


def of_module(folder: Path, name: str) -> SubprocessMeasurement:
    """Run the "student" in full precision, or the "teacher", of a model folder in torch, on one thread."""
    import torch

    from edge_stscq.codec import store
    from edge_stscq.config.codec import CROP

    torch.set_num_threads(1)
    before = peak_mib()
    encoder = store.load_teacher(folder) if name == "teacher" else store.load_student(folder).float_twin()
    with torch.inference_mode():
        encoder(torch.from_numpy(np.zeros((1, CROP, CROP, 3), np.uint8)))
    return SubprocessMeasurement(runtime=f"torch {torch.__version__}", before_mib=before, peak_mib=peak_mib())


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
