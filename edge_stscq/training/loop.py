"""The loop every training shares: steps, progress, log, sample pictures, checkpoints that continue exactly.

A *task* owns its networks and does one step at a time. Its whole state - weights, averages, optimizer moments - is a
flat dictionary of tensors, so that a checkpoint is one safetensors file, never a pickle. Batches depend on the step
number alone, and the random generator is reseeded from it, so `--resume` repeats what would have happened.
"""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import rich.progress
import torch
import torch.distributed as dist
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text
from torch import Tensor, nn

from edge_stscq.codec.store import load_weights, save_weights
from edge_stscq.errors import EdgeError

CHECKPOINT = "checkpoint.safetensors"
LOG = "log.jsonl"


class Task(Protocol):
    """What the loop drives."""

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
    """How often, in steps."""

    log: int = 20
    checkpoint: int = 200
    sample: int = 500


class EMA:
    """Exponential moving average of a network's parameters; buffers are copied (decay is ramped up at the start)."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.tensors = {k: v.detach().clone() for k, v in network.state_dict().items()}
        self._trained = {k for k, v in network.named_parameters() if v.requires_grad}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in network.state_dict().items():
            if name in self._trained:
                self.tensors[name].lerp_(value, 1 - decay)
            else:
                self.tensors[name].copy_(value)


def pack(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Prefix the names of a state dictionary."""
    return {f"{prefix}/{k}": v for k, v in tensors.items()}


def unpack(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `pack`."""
    return {k[len(prefix) + 1 :]: v for k, v in state.items() if k.startswith(prefix + "/")}


def pack_optimiser(prefix: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Moments and step counts of an optimizer as named tensors."""
    states = optimizer.state_dict()["state"]
    return {f"{prefix}/{i}/{k}": torch.as_tensor(v) for i, s in states.items() for k, v in s.items()}


def unpack_optimiser(prefix: str, state: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
    """Put moments and step counts back.

    A moment takes the memory layout of its parameter: fused kernels walk both as raw memory; a file knows no layout.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    slots: dict[int, dict[str, Tensor]] = {}
    for name, value in unpack(prefix, state).items():
        index, key = name.split("/")
        like = parameters[int(index)]
        slots.setdefault(int(index), {})[key] = (
            torch.empty_like(like, requires_grad=False).copy_(value) if value.shape == like.shape else value
        )
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})


def lr_factor(step: int, steps: int, warmup: int = 100, floor: float = 0.02) -> float:
    """Learning-rate factor: linear warm-up, then half a cosine down to `floor`."""
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return floor + (1 - floor) * 0.5 * (1 + float(torch.cos(torch.tensor(done * torch.pi))))


def all_reduce_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Average gradients over all processes in one message."""
    if not dist.is_initialized():
        return
    filled = [p for p in parameters if p.grad is not None]
    flat = torch.cat([p.grad.flatten() for p in filled if p.grad is not None])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for parameter, part in zip(filled, flat.split([p.numel() for p in filled]), strict=True):
        parameter.grad = part.view_as(parameter)


def is_main() -> bool:
    """Whether this is the process that writes files and talks."""
    return not dist.is_initialized() or dist.get_rank() == 0


class _Info(ProgressColumn):
    """The text a task reports about itself, if it does."""

    def render(self, task: rich.progress.Task) -> Text:
        return Text(task.fields.get("info", ""))


@contextmanager
def progress_bar(console: Console) -> Iterator[Progress]:
    """A progress display with time left; silent in all processes but the first."""
    columns = (
        TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn(),
        _Info(),
    )  # fmt: skip
    with Progress(*columns, console=console, disable=not is_main(), refresh_per_second=2) as progress:
        yield progress


def run_task(
    task: Task, name: str, steps: int, folder: Path, intervals: Intervals, resume: bool, progress: Progress
) -> None:
    """Drive `task` for `steps` steps, or for what is left of them.

    Raises:
        EdgeError: `resume` without a checkpoint, or with one of another task; no `resume` although one is there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / CHECKPOINT
    start = 0
    if checkpoint.exists() and not resume:
        raise EdgeError(f"{checkpoint} exists; add --resume to continue it, or choose another folder")
    if checkpoint.exists():
        state = load_weights(checkpoint)
        try:
            start = int(state.pop("step"))
            task.restore(state)
        except (KeyError, RuntimeError, ValueError) as error:
            raise EdgeError(f"{checkpoint} is of another configuration: {str(error).splitlines()[0]}") from None
        _trim_log(folder / LOG, name, start)
    bar = progress.add_task(name, total=steps, completed=start, info="")
    began, seen = time.monotonic(), start
    for step in range(start, steps):
        torch.manual_seed(1_000_003 * (step + 1))
        values = task.step(step)
        last = step + 1 == steps
        if is_main() and ((step + 1) % intervals.log == 0 or last):
            speed = (step + 1 - seen) * task.batch * (dist.get_world_size() if dist.is_initialized() else 1)
            elapsed = time.monotonic() - began
            row = {"stage": name, "step": step + 1} | {k: _round(v) for k, v in values.items()}
            row |= {"images_per_s": round(speed / max(elapsed, 1e-9), 1)}
            with (folder / LOG).open("a") as log:
                log.write(json.dumps(row) + "\n")
            began, seen = time.monotonic(), step + 1
            progress.update(bar, info=" ".join(f"{k} {v:g}" for k, v in row.items() if isinstance(v, float)))
        progress.update(bar, completed=step + 1)
        if is_main() and ((step + 1) % intervals.sample == 0 or last):
            task.sample(folder / f"{name}-{step + 1:06d}.png")
        if is_main() and ((step + 1) % intervals.checkpoint == 0 or last):
            save_weights(checkpoint, task.state() | {"step": torch.tensor(step + 1)})


def _round(value: Tensor | float) -> float:
    return float(f"{float(value):.4g}")


def _trim_log(path: Path, name: str, step: int) -> None:
    """Drop what an interrupted run logged after its last checkpoint."""
    if not path.exists():
        return
    rows = [line for line in path.read_text().splitlines() if line]
    kept = [line for line in rows if (row := json.loads(line))["stage"] != name or row["step"] <= step]
    path.write_text("".join(line + "\n" for line in kept))
