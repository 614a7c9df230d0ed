"""ONNX Runtime and ExecuTorch on an emulated Haswell: x86-64 with AVX2, without AVX-512 and VNNI."""

import shutil
from functools import partial

from benchmarks.equality.places.base import Command, Place, Setting, python_worker
from edge_stscq.bundle.manifest import TargetName
from edge_stscq.errors import EdgeError

EMULATOR = "qemu-x86_64-static"


def _worker(setting: Setting, target: TargetName) -> Command:
    if shutil.which(EMULATOR) is None:
        raise EdgeError(f"{EMULATOR} is not installed; run: apt-get install qemu-user-static")
    words, environment = python_worker(setting, target)
    return Command([EMULATOR, "-cpu", "Haswell", *words], environment)


PLACES = (
    Place(
        name="onnx-haswell",
        title="ONNX Runtime, emulated Haswell (AVX2, no VNNI)",
        target="onnx",
        worker=partial(_worker, target="onnx"),
    ),
    Place(
        name="executorch-haswell",
        title="ExecuTorch, emulated Haswell (AVX2, no VNNI)",
        target="executorch",
        worker=partial(_worker, target="executorch"),
    ),
)
