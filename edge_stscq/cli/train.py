"""`train`, `distill` and `finetune`: from crops to a model folder."""

import json
import os
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated

import typer

from edge_stscq import api
from edge_stscq._reporter import SILENCE, Reporter
from edge_stscq.cli.options import FOLDER, AsJson, folder
from edge_stscq.cli.ui import progress_console
from edge_stscq.training.options import PrecisionName, TokensOf

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
    as_json: AsJson = False,
) -> None:
    """Fit or train teacher, codebooks and a first decoder, as the recipe says."""
    began = time.monotonic()
    with _reporter() as reporter:
        model = api.train(
            recipe, data, out, start=start, resume=resume, precision=precision.value, device=device, threads=threads,
            log_every=log_every, save_every=save_every, reporter=reporter,
        )  # fmt: skip
    following = f"edge-stscq distill --recipe {recipe} --data {data} --model {model} -o {out}"
    _report("teacher", model, out, following, began, as_json)


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
    precision: _Precision = PrecisionName.AUTO,
    device: _Device = "cpu",
    threads: _Threads = 0,
    log_every: _LogEvery = 20,
    save_every: _SaveEvery = 200,
    as_json: AsJson = False,
) -> None:
    """Train the device's encoder to what the teacher makes of faces."""
    began = time.monotonic()
    with _reporter() as reporter:
        result = api.distill(
            recipe, model, data, out, start=start, new_tables=new_tables, resume=resume, precision=precision.value,
            device=device, threads=threads, log_every=log_every, save_every=save_every, reporter=reporter,
        )  # fmt: skip
    following = f"edge-stscq finetune --recipe {recipe} --data {data} --model {result} -o {out}"
    _report("model", result, out, following, began, as_json)


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
    as_json: AsJson = False,
) -> None:
    """Train the decoder on the tokens of the device's encoder."""
    began = time.monotonic()
    with _reporter() as reporter:
        result = api.finetune(
            recipe, model, data, out, start=start, encoder=encoder.value, resume=resume, precision=precision.value,
            device=device, threads=threads, log_every=log_every, save_every=save_every, reporter=reporter,
        )  # fmt: skip
    _report("model", result, out, f"edge-stscq quantize --model {result} --faces FOLDER_OF_CROPS", began, as_json)


def _reporter() -> AbstractContextManager[Reporter]:
    """Bars and lines of the first process of several."""
    from edge_stscq.cli.ui import training_bars

    return training_bars(progress_console()) if os.environ.get("RANK", "0") == "0" else nullcontext(SILENCE)


def _report(what: str, model: Path, out: Path, following: str, began: float, as_json: bool) -> None:
    """The result on stdout, by the first process of several."""
    if os.environ.get("RANK", "0") != "0":
        return
    seconds = time.monotonic() - began
    if as_json:
        logs = sorted(str(path) for path in out.rglob("log.jsonl"))
        report = {"model": str(model), "logs": logs, "seconds": round(seconds, 2), "next": following}
        typer.echo(json.dumps(report))
    else:
        typer.echo(f"{what} in {model} after {seconds:.1f} s\nnext: {following}")
