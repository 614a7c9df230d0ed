"""`train` and `distill`: from crops to a model folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_stscq.cli.options import FOLDER, folder
from edge_stscq.errors import require

if TYPE_CHECKING:
    from rich.console import Console

    from edge_stscq.training.train import Run

_Recipe = Annotated[Path, typer.Option(help="Recipe, see the folder recipes/.")]
_Data = Annotated[Path, typer.Option(envvar="EDGE_STSCQ_DATA", help="Folder that the recipe's faces are relative to.")]
_Out = Annotated[Path, typer.Option("--output", "-o", help="Folder for checkpoints, logs and the model.")]
_Resume = Annotated[bool, typer.Option("--resume", help="Continue exactly where an interrupted run stopped.")]
_Device = Annotated[str, typer.Option("--accelerator", help="cpu or cuda; with torchrun, one process a GPU.")]
_Start = Annotated[
    Path | None,
    typer.Option(parser=folder, metavar=FOLDER, help="Model folder, or name, to improve instead of starting afresh."),
]
_Threads = Annotated[int, typer.Option(min=0, help="CPU threads; 0 leaves torch's choice.")]
_LogEvery = Annotated[int, typer.Option(min=1, help="Steps between lines of the log.")]
_SaveEvery = Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")]


def train(
    recipe: _Recipe,
    data: _Data,
    out: _Out = Path("runs/train"),
    start: _Start = None,
    resume: _Resume = False,
    device: _Device = "cpu",
    threads: _Threads = 0,
    log_every: _LogEvery = 20,
    save_every: _SaveEvery = 200,
) -> None:
    """Train teacher, router, codebooks and decoder by a recipe's stages."""
    with _job(recipe, data, out, start, resume, device, threads, log_every, save_every) as (job, console):
        from edge_stscq.training.train import train as run

        model = run(job, console)
        console.print(f"teacher in {model}\nnext: edge-stscq distill --recipe {recipe} --model {model} -o {out}")


def distill(
    recipe: _Recipe,
    model: Annotated[Path, typer.Option(parser=folder, metavar=FOLDER, help="Model folder with the teacher.")],
    data: _Data,
    out: _Out = Path("runs/train"),
    start: _Start = None,
    resume: _Resume = False,
    device: _Device = "cpu",
    threads: _Threads = 0,
    log_every: _LogEvery = 20,
    save_every: _SaveEvery = 200,
) -> None:
    """Train the device's encoder to the teacher's token vectors, tokens, group and identity."""
    with _job(recipe, data, out, start, resume, device, threads, log_every, save_every) as (job, console):
        from edge_stscq.training.train import distil

        result = distil(job, model, console)
        console.print(f"model in {result}\nnext: edge-stscq finetune --recipe {recipe} --model {result} -o {out}")


def finetune(
    recipe: _Recipe,
    model: Annotated[Path, typer.Option(parser=folder, metavar=FOLDER, help="Model folder with the student.")],
    data: _Data,
    out: _Out = Path("runs/train"),
    resume: _Resume = False,
    device: _Device = "cpu",
    threads: _Threads = 0,
    log_every: _LogEvery = 20,
    save_every: _SaveEvery = 200,
) -> None:
    """Fine-tune the decoder on the tokens of the device's encoder."""
    with _job(recipe, data, out, None, resume, device, threads, log_every, save_every) as (job, console):
        from edge_stscq.training.train import finetune as run

        result = run(job, model, console)
        console.print(f"model in {result}\nnext: edge-stscq quantize --model {result} --faces {data}/faces")


@contextmanager
def _job(
    recipe: Path,
    data: Path,
    out: Path,
    start: Path | None,
    resume: bool,
    device: str,
    threads: int,
    log_every: int,
    save_every: int,
) -> "Iterator[tuple[Run, Console]]":
    torch = require("torch", "train")
    from rich.console import Console

    from edge_stscq.config.recipe import Recipe
    from edge_stscq.training.loop import Intervals
    from edge_stscq.training.train import Run, devices

    if threads:
        torch.set_num_threads(threads)
    plan = Recipe.load(recipe)
    with devices(device) as where:
        intervals = Intervals(log=log_every, checkpoint=save_every)
        cache = out / "embeddings.safetensors"
        yield Run(plan, data, out, cache, resume, intervals, where, start), Console()
