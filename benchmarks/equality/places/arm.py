"""ONNX Runtime and ExecuTorch on emulated 64-bit Arm processors; `make arm` sets the emulator up."""

from functools import partial
from typing import NamedTuple

from benchmarks.equality.arm import EMULATOR, Arm
from benchmarks.equality.places.base import Command, Place, Setting


class Core(NamedTuple):
    """A processor as QEMU and people call it."""

    name: str
    title: str


CORES = (
    Core("cortex-a72", "Cortex-A72 (Raspberry Pi 4)"),
    Core("cortex-a76", "Cortex-A76 (Raspberry Pi 5)"),
    Core("neoverse-n1", "Neoverse N1"),
)


def _emulated(arm: Arm, core: str, *words: str, **environment: str) -> Command:
    settings = [word for name, value in environment.items() for word in ("-E", f"{name}={value}")]
    return Command([EMULATOR, "-L", str(arm.root(core)), "-cpu", core, *settings, *words], {})


def _onnx(setting: Setting, core: str) -> Command:
    arm, folder = Arm(setting.cache), setting.bundle("onnx").folder.resolve()
    arm.check()
    return _emulated(
        arm, core, str(arm.python), "-m", "benchmarks.equality.worker", "bundle", str(folder),
        PYTHONPATH=str(arm.site), OMP_NUM_THREADS="1",
    )  # fmt: skip


def _executorch(setting: Setting, core: str) -> Command:
    arm = Arm(setting.cache)
    arm.check()
    return _emulated(arm, core, str(arm.runner), str(setting.bundle("executorch").artefact.resolve()))


PLACES = tuple(
    place
    for core in CORES
    for place in (
        Place(
            name=f"onnx-{core.name}",
            title=f"ONNX Runtime, emulated {core.title}",
            target="onnx",
            worker=partial(_onnx, core=core.name),
        ),
        Place(
            name=f"executorch-{core.name}",
            title=f"ExecuTorch (C++), emulated {core.title}",
            target="executorch",
            worker=partial(_executorch, core=core.name),
        ),
    )
)
