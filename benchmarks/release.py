"""The measured part of a release in its order; what is done is not done again (docs/releasing.md tells the rest).

    EDGE_STSCQ_DATA=DIR python -m benchmarks.release models/NAME [--only STEP ...] [--list]

A step is a command that can be given by hand as well. Steps that are done are kept by the content of the model's
networks and codebooks in `out/release/`: new weights begin anew, an interrupted release goes on. Steps that are timed
want a machine that does nothing else; steps that ask the judge are counted in the model's card.
"""

import hashlib
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from edge_stscq._files import write_file
from edge_stscq.errors import EXIT_BAD_INPUT, EdgeError
from edge_stscq.recognizers import DATA_VARIABLE

WEIGHTS = ("codebooks", "tables", "student", "decoder")
"""Files of a model that all figures depend on."""


class Step(NamedTuple):
    """Commands of one name."""

    name: str
    note: str
    commands: tuple[tuple[str, ...], ...]


def steps(model: Path, bundles: Path, data: Path, older: Path | None) -> Iterator[Step]:
    """All steps of a release, in their order.

    Args:
        bundles: folder that the bundles are exported to.
        data: folder with faces/, lfw/ and recognisers/.
        older: model that people's metrics and the named faces are shown beside, if any.
    """
    export = ("-m", "edge_stscq", "export", "--model", str(model), "--force", "-o", str(bundles))
    onnx, validation, lfw = bundles / "onnx-int8", data / "faces" / "val.tar", data / "lfw" / "lfw-crops.tar"
    int8 = tuple(str(bundles / f"{target}-int8") for target in ("onnx", "executorch", "coreml"))
    of_model, by_bundle = ("--model", str(model)), ("--bundle", str(onnx))
    beside = () if older is None else ("--model", str(older))

    def bench(name: str, *words: object) -> tuple[str, ...]:
        return ("-m", f"benchmarks.{name}", *map(str, words))

    yield Step("export-onnx", "what the match rule is measured with", ((*export, "--target", "onnx"),))
    yield Step(
        "match-rule", "thresholds and cohort, which bundles carry",
        (bench("codec.false_matches", *of_model, *by_bundle),),
    )  # fmt: skip
    yield Step("export", "every target, with the match rule", ((*export, "--target", "all"),))
    yield Step(
        "export-float", "float32 of the same network, for the speed table",
        tuple((*export, "--precision", "fp32", "--target", target) for target in ("onnx", "executorch")),
    )  # fmt: skip
    yield Step(
        "gate", "exit code 1 where int8 misses [parity] of the recipe; asks the judge",
        (("-m", "edge_stscq", "parity", int8[0], *of_model, "--faces", str(validation), "--pairs",
          str(data / "lfw" / "pairs.txt"), "--crops", str(lfw), "--first", "1200"),),
    )  # fmt: skip
    yield Step(
        "parity", "asks the judge",
        (bench("device.parity", *of_model, "--faces", validation, "--count", 200, *int8),),
    )  # fmt: skip
    yield Step(
        "people", "Frechet, perceptual, SSIMULACRA 2, of all LFW crops",
        tuple(bench("people", "--model", one) for one in (older,) if one is not None)
        + (bench("people", *of_model, *by_bundle),),
    )  # fmt: skip
    yield Step("verification", "asks the judge", (bench("codec.verification", *of_model, *by_bundle),))
    yield Step("subgroups", "asks the judge", (bench("codec.subgroup_fairness", *of_model, *by_bundle),))
    yield Step("rate", "asks the judge", (bench("codec.rate", *of_model, *by_bundle, "--first", 1200),))
    yield Step(
        "equality", "tokens at every place of this machine",
        (
            bench("equality", "crops", "--data", data),
            bench("equality", "run", "--place", "here", "--bundles", bundles, *of_model),
        ),
    )  # fmt: skip
    float32 = (bundles / "onnx-fp32", bundles / "executorch-fp32")
    yield Step("speed", "timed", (bench("device.encode", *of_model, "--rounds", 40, *int8, *float32),))
    yield Step(
        "server", "timed",
        tuple(bench(f"server.{name}", *of_model) for name in ("decode_http", "memory", "overload")),
    )  # fmt: skip
    yield Step("camera", "timed", (bench("device.camera", onnx),))
    sheet = ("docs.contact_sheet", "--faces")
    named = ("--names", "benchmarks/docs/named_faces.toml", "--originals")
    yield Step(
        "sheets", "look at them",
        (
            bench(*sheet, validation, *of_model, "-o", "docs/faces.jpg"),
            bench(*sheet, lfw, *named, *beside, *of_model, "-o", "out/release/named.png"),
        ),
    )  # fmt: skip


def digest(model: Path) -> str:
    """Short hash of the files that all figures depend on.

    Raises:
        EdgeError: one is not there.
    """
    try:
        content = b"".join(hashlib.sha256((model / f"{name}.safetensors").read_bytes()).digest() for name in WEIGHTS)
    except OSError as error:
        raise EdgeError(f"{model} is no whole model ({error.strerror}: {error.filename}); name its folder") from None
    return hashlib.sha256(content).hexdigest()[:12]


def run(step: Step, marks: Path, data: Path) -> None:
    """Run the commands of a step, unless it is done, and mark it.

    Args:
        marks: folder of a file for each step that is done.
        data: folder that the commands find in their environment.

    Raises:
        EdgeError: a command failed; the step is not marked.
    """
    mark = marks / step.name
    if mark.exists():
        typer.echo(f"{step.name}: done before")
        return
    begun, environment = time.monotonic(), os.environ | {DATA_VARIABLE: str(data)}
    for words in step.commands:
        typer.echo(f"\n$ python {shlex.join(words)}")
        code = subprocess.run([sys.executable, *words], env=environment, check=False).returncode
        if code:
            raise EdgeError(f"{step.name} ended with exit code {code}; put it right and give the same command again")
    minutes = (time.monotonic() - begun) / 60
    write_file(mark, f"{minutes:.1f} minutes\n".encode())
    typer.echo(f"{step.name}: {minutes:.1f} minutes")


def main(
    model: Annotated[Path, typer.Argument(help="Folder of the model that is to be released.")],
    data: Annotated[Path, typer.Option(envvar=DATA_VARIABLE, help="Folder with faces/, lfw/ and recognisers/.")],
    bundles: Annotated[Path, typer.Option(help="Folder of the bundles.")] = Path("build/bundles"),
    older: Annotated[Path | None, typer.Option(help="Model to be shown beside it, measured alike.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only this step; may be repeated.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Also what is done.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="Print the steps and what is done.")] = False,
) -> None:
    """Do what is left of a release."""
    marks = Path("out", "release", digest(model))
    marks.mkdir(parents=True, exist_ok=True)
    every = list(steps(model, bundles, data, older))
    if unknown := set(only or ()) - {step.name for step in every}:
        raise EdgeError(f"no step is called {min(unknown)!r}; there are {', '.join(step.name for step in every)}")
    chosen = [step for step in every if not only or step.name in only]
    if listed:
        for step in chosen:
            mark = marks / step.name
            typer.echo(f"{step.name:14}{mark.read_text().strip() if mark.exists() else '-':14}{step.note}")
        return
    for step in chosen:
        if again:
            (marks / step.name).unlink(missing_ok=True)
        run(step, marks, data)


if __name__ == "__main__":
    try:
        typer.run(main)
    except EdgeError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(EXIT_BAD_INPUT)
