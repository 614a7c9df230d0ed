"""Training speed: pictures a second, and the share of the measured matrix-product rate.

    EDGE_STSCQ_DATA=DIR python -m benchmarks.device.training [--device cuda]    -> benchmarks/results/training.json

Every kind of step runs on the released model's networks and on real crops, loading included. Operations are those of
convolutions and matrix products, forward and backward, two for a multiply-accumulate. Element-wise work is not counted,
so a step of depthwise convolutions and batch norms shows a small share of peak however well it runs. `where` tells the
operators that one profiled step spends its time in.
"""

import math
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.record import write
from benchmarks.released import MODEL
from edge_stscq.cli.ui import progress_bar
from edge_stscq.codec import store
from edge_stscq.config.recipe import Recipe
from edge_stscq.data.loader import Augmentation, FaceSet, Loader
from edge_stscq.recognizers.sface import load_sface
from edge_stscq.training.loop import Task
from edge_stscq.training.losses import FrozenRecognizer
from edge_stscq.training.run import devices
from edge_stscq.training.stages.codec import CodecStage
from edge_stscq.training.stages.decoder_finetuning import DecoderFinetuning
from edge_stscq.training.stages.distillation import DistillSettings
from edge_stscq.training.stages.identity_distillation import IdentityDistillation
from edge_stscq.training.stages.token_distillation import TokenDistillation


def peak(device: torch.device, side: int = 2048, rounds: int = 5) -> float:
    """Matrix-product rate in GFLOP/s, in the precision that training uses there: the best of some rounds."""
    kind = torch.bfloat16 if device.type == "cuda" else torch.float32
    a = torch.randn(side, side, device=device, dtype=kind)
    best = 0.0
    for _ in range(rounds + 1):
        _wait(device)
        start = time.perf_counter()
        a @ a
        _wait(device)
        best = max(best, 2 * side**3 / (time.perf_counter() - start) / 1e9)
    return best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _backward(
    gradient: list[int], x: list[int], weight: list[int], bias: Any, stride: Any, padding: Any, dilation: Any,
    transposed: bool, output_padding: Any, groups: int, mask: list[bool], **_: Any,
) -> int:  # fmt: skip
    """Operations of a convolution's backward pass. torch's own formula takes no account of groups."""
    forward = 2 * math.prod(x if transposed else gradient) * math.prod(weight[1:])
    return forward * (mask[0] + mask[1])


def main(
    data: Annotated[Path, typer.Option(envvar="EDGE_STSCQ_DATA", help="Folder that the recipe's faces are below.")],
    model: Annotated[Path, typer.Option(help="Model folder.")] = MODEL,
    recipe: Annotated[Path, typer.Option(help="Recipe whose stages are measured.")] = Path("recipes/release.toml"),
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 leaves torch's choice.")] = 0,
    steps: Annotated[int, typer.Option(min=2, help="Timed steps of each kind.")] = 8,
) -> None:
    """Write benchmarks/results/training.json."""
    if threads:
        torch.set_num_threads(threads)
    plan = Recipe.load(recipe)
    with devices(device) as where:
        faces = FaceSet([data / plan.faces[0]])
        trunk = load_sface(store.load_weights(data / plan.recogniser))
        embeddings = torch.randn(len(faces), 2, 128)
        distillation = DistillSettings(steps, plan.distillation.batch, 1e-4, blends=plan.distillation.blends)

        def loader(batch: int) -> Loader:
            return Loader(faces, batch, plan.seed, Augmentation(shift=4, rotation=6))

        def codec(index: int) -> Task:
            return CodecStage(
                store.load_teacher(model).requires_grad_(True), store.load_decoder(model).requires_grad_(True),
                FrozenRecognizer(trunk), embeddings, loader(plan.batch), faces, plan, plan.stages[index], where,
            )  # fmt: skip

        tasks = {stage.name: lambda index=index: codec(index) for index, stage in enumerate(plan.stages)}
        tasks["identity"] = lambda: IdentityDistillation(
            store.load_student(model).backbone.identity, trunk, loader(plan.distillation.batch), distillation, where
        )  # fmt: skip
        tasks["student"] = lambda: TokenDistillation(
            store.load_teacher(model), store.load_student(model).requires_grad_(True), embeddings,
            loader(plan.distillation.batch), distillation, where,
        )  # fmt: skip
        if (last := plan.finetuning) is not None:
            tasks["finetune"] = lambda: DecoderFinetuning(
                store.load_student(model), store.load_decoder(model),
                [FrozenRecognizer(trunk), FrozenRecognizer(store.load_student(model).backbone.identity)],
                loader(last.batch), faces, last, plan.average, where,
            )  # fmt: skip
        rows: dict[str, Any] = {}
        rate = peak(where)
        with progress_bar("kinds of step", len(tasks)) as progress:
            for name, make in tasks.items():
                rows[name] = _measure(make(), steps, where, rate)
                progress(1)
    content = {"device": device, "threads": torch.get_num_threads(), "peak_gflops": round(rate, 1), "stages": rows}
    typer.echo(write("training", content))


def _measure(task: Task, steps: int, device: torch.device, rate: float) -> dict[str, Any]:
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.convolution_backward: _backward}) as counter:
        task.step(0)
    task.step(1)
    _wait(device)
    start = time.perf_counter()
    for index in range(2, steps + 2):
        task.step(index)
    _wait(device)
    seconds = (time.perf_counter() - start) / steps
    gflop = counter.get_total_flops() / 1e9
    with profile(activities=[ProfilerActivity.CUDA if device.type == "cuda" else ProfilerActivity.CPU]) as profiler:
        task.step(steps + 2)
        _wait(device)
    return {
        "batch": task.batch,
        "images_per_s": round(task.batch / seconds, 2),
        "gflop_per_image": round(gflop / task.batch, 3),
        "share_of_peak": round(gflop / seconds / rate, 3),
        "where": _where(profiler, device),
    }


def _where(profiler: profile, device: torch.device, most: int = 6) -> dict[str, float]:
    """The operators that take most of a step, each with its share of the time of all of them."""
    spent = {
        event.key: event.self_device_time_total if device.type == "cuda" else event.self_cpu_time_total
        for event in profiler.key_averages()
    }
    longest = sorted(spent, key=lambda key: -spent[key])[:most]
    return {key.removeprefix("aten::"): round(spent[key] / sum(spent.values()), 3) for key in longest}


if __name__ == "__main__":
    typer.run(main)
