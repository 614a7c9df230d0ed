"""The loop every training shares: steps, progress, log, sample pictures, checkpoints that continue exactly.

A *task* owns its networks and does one step at a time. Batches depend on the step number alone, and the random
generator is reseeded from it, so `--resume` repeats what would have happened.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from edge_stscq._reporter import Reporter
from edge_stscq.codec.store import load_weights, save_weights
from edge_stscq.errors import EdgeError

CHECKPOINT = "checkpoint.safetensors"
LOG = "log.jsonl"


class Task(Protocol):
    """Task that the loop drives."""

    batch: int
    """Pictures per step and process."""

    def step(self, index: int) -> dict[str, Tensor | float]:
        """Do one optimizer step and return what is to be logged."""

    def state(self) -> dict[str, Tensor]:
        """Everything that must survive an interruption."""

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` gave."""

    def sample(self, path: Path) -> None:
        """Write a picture of how far the training is."""


@dataclass(frozen=True)
class Intervals:
    """Intervals in steps."""

    log: int = 20
    checkpoint: int = 200
    sample: int = 500


def is_main() -> bool:
    """True in the process that writes files and talks."""
    return not dist.is_initialized() or dist.get_rank() == 0


def barrier() -> None:
    """Wait for all processes, where there are several."""
    if dist.is_initialized():
        dist.barrier()


def run_task(
    task: Task, name: str, steps: int, folder: Path, intervals: Intervals, resume: bool, reporter: Reporter
) -> None:
    """Drive `task` for `steps` steps, or for what is left of them.

    Raises:
        EdgeError: the checkpoint is of another task; it is there and `resume` is not set.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / CHECKPOINT
    start = _restore(task, checkpoint, resume)
    if is_main():
        _trim_log(folder / LOG, name, start)
    advance = reporter.task(name, steps, start)
    began, seen = time.monotonic(), start
    for step in range(start, steps):
        torch.manual_seed(1_000_003 * (step + 1))
        values = task.step(step)
        info = None
        last = step + 1 == steps
        if is_main() and ((step + 1) % intervals.log == 0 or last):
            speed = (step + 1 - seen) * task.batch * (dist.get_world_size() if dist.is_initialized() else 1)
            elapsed = time.monotonic() - began
            row = {"stage": name, "step": step + 1} | {k: _round(v) for k, v in values.items()}
            row |= {"images_per_s": round(speed / max(elapsed, 1e-9), 1)}
            with (folder / LOG).open("a") as log:
                log.write(json.dumps(row) + "\n")
            began, seen = time.monotonic(), step + 1
            info = " ".join(f"{k} {v:g}" for k, v in row.items() if isinstance(v, float))
        advance(1, info)
        if is_main() and ((step + 1) % intervals.sample == 0 or last):
            task.sample(folder / f"{name}-{step + 1:06d}.png")
        if is_main() and ((step + 1) % intervals.checkpoint == 0 or last):
            save_weights(checkpoint, task.state() | {"step": torch.tensor(step + 1)})


def _restore(task: Task, checkpoint: Path, resume: bool) -> int:
    """Take a task's state from its checkpoint, if there is one; returns how many steps it has made."""
    if not checkpoint.exists():
        return 0
    if not resume:
        raise EdgeError(f"{checkpoint} exists; add --resume to continue it, or choose another folder")
    state = load_weights(checkpoint)
    try:
        step = int(state.pop("step"))
        task.restore(state)
    except (KeyError, RuntimeError, ValueError) as error:
        raise EdgeError(f"{checkpoint} is of another configuration: {str(error).splitlines()[0]}") from None
    return step


def _round(value: Tensor | float) -> float:
    return float(f"{float(value):.4g}")


def _trim_log(path: Path, name: str, step: int) -> None:
    """Drop what an interrupted run logged after its last checkpoint."""
    if not path.exists():
        return
    rows = [line for line in path.read_text().splitlines() if line]
    kept = [line for line in rows if (row := json.loads(line))["stage"] != name or row["step"] <= step]
    path.write_text("".join(line + "\n" for line in kept))
