"""`train`, `distill` and `finetune`: from crops to a model folder."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_stscq.cli.options import FOLDER, folder
from edge_stscq.errors import EdgeError, require
from edge_stscq.training.options import PrecisionName, TokensOf

if TYPE_CHECKING:
    from edge_stscq.training.run import TrainingRun


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
_Precision = Annotated[
    PrecisionName, typer.Option(help="Of training; auto times both for a moment and says what it took.")
]
_SaveEvery = Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")]


def train(
    recipe: _Recipe,
    data: _Data,
    out: _Out = Path("runs/train"),
    start: _Start = None,
    resume: _Resume = False,
    precision: _Precision = PrecisionName.AUTO,
    device: _Device = "cpu",
    threads: _Threads = 0,
    log_every: _LogEvery = 20,
    save_every: _SaveEvery = 200,
) -> None:
    """Fit or train teacher, codebooks and a first decoder, as the recipe says."""
    with _begin(recipe, data, out, start, resume, precision, device, threads, log_every, save_every) as run:
        from edge_stscq.training import float_pipeline, integer_pipeline

        model = (integer_pipeline.train if run.recipe.codec.student_layers else float_pipeline.train)(run)
    _say(f"teacher in {model}\nnext: edge-stscq distill --recipe {recipe} --model {model} -o {out}")


def distill(
    recipe: _Recipe,
    model: Annotated[Path, typer.Option(parser=folder, metavar=FOLDER, help="Model folder with the teacher.")],
    data: _Data,
    out: _Out = Path("runs/train"),
    start: _Start = None,
    new_tables: Annotated[
        bool, typer.Option("--new-tables", help="Count frequency tables on the student's tokens: a new model id.")
    ] = False,
    resume: _Resume = False,
    device: _Device = "cpu",
    threads: _Threads = 0,
    log_every: _LogEvery = 20,
    save_every: _SaveEvery = 200,
) -> None:
    """Train the device's encoder to what the teacher makes of faces."""
    single = PrecisionName.FLOAT32  # the student's arithmetic is its own
    with _begin(recipe, data, out, start, resume, single, device, threads, log_every, save_every) as run:
        from edge_stscq.training import float_pipeline, integer_pipeline

        if run.recipe.codec.student_layers:
            result = integer_pipeline.distill(run, model, new_tables)
        elif new_tables:
            raise EdgeError("--new-tables is for codecs with student_layers; this recipe's tables are its teacher's")
        else:
            result = float_pipeline.distill(run, model)
    _say(f"model in {result}\nnext: edge-stscq finetune --recipe {recipe} --model {result} -o {out}")


def finetune(
    recipe: _Recipe,
    model: Annotated[Path, typer.Option(parser=folder, metavar=FOLDER, help="Model folder with the student.")],
    data: _Data,
    out: _Out = Path("runs/train"),
    start: _Start = None,
    encoder: Annotated[TokensOf, typer.Option(help="Whose tokens the decoder learns on.")] = TokensOf.STUDENT,
    resume: _Resume = False,
    precision: _Precision = PrecisionName.AUTO,
    device: _Device = "cpu",
    threads: _Threads = 0,
    log_every: _LogEvery = 20,
    save_every: _SaveEvery = 200,
) -> None:
    """Train the decoder on the tokens of the device's encoder."""
    with _begin(recipe, data, out, start, resume, precision, device, threads, log_every, save_every) as run:
        from edge_stscq.training import float_pipeline, integer_pipeline

        if run.recipe.codec.student_layers:
            result = integer_pipeline.finetune(run, model, encoder)
        elif start is not None or encoder is TokensOf.TEACHER:
            raise EdgeError("--start and --encoder are for codecs with student_layers; leave them out")
        else:
            result = float_pipeline.finetune(run, model)
    _say(f"model in {result}\nnext: edge-stscq quantize --model {result} --faces {data}/faces")


@contextmanager
def _begin(
    recipe: Path,
    data: Path,
    out: Path,
    start: Path | None,
    resume: bool,
    precision: PrecisionName,
    device: str,
    threads: int,
    log_every: int,
    save_every: int,
) -> "Iterator[TrainingRun]":
    torch = require("torch", "train")
    from rich.console import Console

    from edge_stscq._reporter import SILENCE
    from edge_stscq.cli.ui import training_bars
    from edge_stscq.config.recipe import Recipe
    from edge_stscq.training.loop import Intervals, is_main
    from edge_stscq.training.run import TrainingRun, devices

    if threads:
        torch.set_num_threads(threads)
    plan = Recipe.load(recipe)
    with devices(device) as where, training_bars(Console()) if is_main() else nullcontext(SILENCE) as reporter:
        intervals = Intervals(log=log_every, checkpoint=save_every)
        cache = out / "embeddings.safetensors"
        yield TrainingRun(plan, data, out, cache, resume, intervals, where, start, precision, reporter)


def _say(text: str) -> None:
    from rich.console import Console

    Console().print(text)
