"""One training: its folders, what it resumes, its crops, and the devices that it runs on."""

import contextlib
import ctypes
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn

from edge_stscq._reporter import SILENCE, Reporter
from edge_stscq.codec import store
from edge_stscq.codec.trunk import IdentityTrunk
from edge_stscq.config.recipe import Recipe
from edge_stscq.data.completion import complete_set
from edge_stscq.data.loader import Augmentation, FaceSet, Loader
from edge_stscq.errors import EdgeError
from edge_stscq.recognizers.sface import load_sface
from edge_stscq.training.loop import CHECKPOINT, LOG, Intervals, barrier, is_main
from edge_stscq.training.options import PrecisionName

LIGHT_AUGMENTATION = Augmentation(shift=2, rotation=2, scale=0.02)
STRONG_AUGMENTATION = Augmentation(shift=4, rotation=6, brightness=0.15, contrast=0.15)
"""Changes of crops where pictures are learned, and where they are only recognized."""


@dataclass(frozen=True)
class TrainingRun:
    """Folders, recipe, device and reporter of one training."""

    recipe: Recipe
    data: Path
    out: Path
    cache: Path
    resume: bool
    intervals: Intervals
    device: torch.device
    start: Path | None = None
    """Model folder to improve, instead of starting afresh."""
    precision: PrecisionName = PrecisionName.AUTO
    reporter: Reporter = SILENCE

    def resumes(self, folder: Path, result: str = CHECKPOINT) -> bool:
        """True if the phase in `folder` goes on from its `result`; one that begins has its recipe noted there.

        Raises:
            EdgeError: it was begun with another recipe.
        """
        kept, recipe = folder / "recipe.json", self.recipe.model_dump(mode="json", exclude={"parity"})
        if not (folder / result).exists():
            if is_main():
                folder.mkdir(parents=True, exist_ok=True)
                kept.write_text(json.dumps(recipe, indent=1))
            return False
        if self.resume and kept.exists() and (changed := _differences(json.loads(kept.read_text()), recipe)):
            raise EdgeError(
                f"{folder} was begun with another recipe ({', '.join(changed)} changed); take that recipe back, or go "
                "on from its model in another folder"
            )
        return self.resume

    def faces(self) -> FaceSet:
        """Training set, completed where its crops are not all picture."""
        return self._completed(self.recipe.faces)

    def typical(self) -> FaceSet:
        """Those of the training set that are like the cameras' pictures."""
        return self._completed(self.recipe.typical or self.recipe.faces)

    def preview(self, faces: FaceSet) -> FaceSet:
        """The faces of sample pictures: the recipe's, or the training set itself."""
        return self._completed(self.recipe.preview, faces) if self.recipe.preview else faces

    def _completed(self, names: Sequence[str], fitted: FaceSet | None = None) -> FaceSet:
        """Crops completed by components of `fitted`, or of themselves; one process of several makes the file."""
        components = self.recipe.completion
        faces = FaceSet([self.data / name for name in names], masked=components > 0)
        path = self.cache.with_name(f"completion-{components}.safetensors")
        if not is_main():
            barrier()
        complete_set(faces, fitted or faces, components, path, self.reporter)
        if is_main():
            barrier()
        return faces

    def trunk(self) -> IdentityTrunk:
        return load_sface(store.load_weights(self.data / self.recipe.recogniser))

    def loader(self, faces: FaceSet, batch: int, change: Augmentation) -> Loader:
        rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        return Loader(faces, batch, self.recipe.seed, change, rank, world)


def _differences(old: object, new: object, name: str = "") -> list[str]:
    """Dotted names of the settings that differ between two recipes."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return [] if old == new else [name.removeprefix(".")]
    keys = sorted(old.keys() | new.keys())
    return [found for key in keys for found in _differences(old.get(key), new.get(key), f"{name}.{key}")]


_Kind = TypeVar("_Kind", bound=nn.Module)


def require_kind(encoder: nn.Module, kind: type[_Kind], model: Path) -> _Kind:
    """The same encoder.

    Raises:
        EdgeError: it is of the other kind, made for integers or not, than the recipe's.
    """
    if not isinstance(encoder, kind):
        raise EdgeError(f"{model} is of a recipe of the other kind (student_layers or none); train it by its own")
    return encoder


def publish(run: TrainingRun, model: Path, name: str, change: Callable[[Path], None]) -> Path:
    """Make the folder `out/name`: a copy of `model` with a change made to it and the log of what `out` holds."""
    target, temporary = run.out / name, run.out / f"{name}.part"
    if is_main():
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.copytree(model, temporary)
        change(temporary)
        stages = [stage.name for stage in run.recipe.stages]
        phases = ("closed-form", *stages, "identity", "front", "student", "finetune")
        logs = [run.out / phase / LOG for phase in phases]
        (temporary / LOG).write_text("".join(path.read_text() for path in logs if path.exists()))
        shutil.rmtree(target, ignore_errors=True)
        temporary.rename(target)
    return target


@contextmanager
def devices(name: str) -> Iterator[torch.device]:
    """The device of this process; under `torchrun` each process joins the group and takes its own GPU.

    Raises:
        EdgeError: CUDA is asked for and not there.
    """
    torch.set_flush_denormal(True)
    _keep_memory()
    if name == "cuda" and not torch.cuda.is_available():
        raise EdgeError("torch sees no CUDA device; use --accelerator cpu or install a CUDA build of torch")
    device = torch.device(name)
    if "RANK" not in os.environ:
        yield device
        return
    dist.init_process_group("nccl" if name == "cuda" else "gloo")
    try:
        if name == "cuda":
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(device)
        yield device
    finally:
        dist.destroy_process_group()


def _keep_memory() -> None:
    """Let glibc keep freed blocks: handing them back and faulting them in again halves the speed of CPU training."""
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(-4, 0)  # M_MMAP_MAX: large blocks come from the heap, not from fresh pages
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
        mallopt(-2, 2**28)  # M_TOP_PAD
