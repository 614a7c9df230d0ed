"""`edge-stscq bench`: this codec beside others, on the user's own pictures and machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_stscq.cli.command import Command, with_verbosity
from edge_stscq.cli.options import BUNDLE, FOLDER, MODEL, BundleOption, Model, folder
from edge_stscq.cli.ui import progress_bar

if TYPE_CHECKING:
    from rich.table import Table

    from demo_camera.speed import CameraReport

bench = typer.Typer(help="Measure this codec beside others.", no_args_is_help=True)


@bench.command("rate", cls=Command)
@with_verbosity
def rate(
    crops: Annotated[Path, typer.Option(help="Folder or .tar with the aligned LFW crops that the pairs name.")],
    pairs: Annotated[Path, typer.Option(help="LFW's pairs.txt.")],
    model: Model = MODEL,
    bundle: Annotated[
        Path | None,
        typer.Option(parser=folder, metavar=FOLDER, help="Encode with this bundle instead of the float32 student."),
    ] = None,
    first: Annotated[
        int | None, typer.Option(min=1, help="Only the first N pairs; whole folds, two or more (1200 = two folds).")
    ] = None,
    codec: Annotated[list[str] | None, typer.Option(help="Only this peer; may be repeated. Otherwise all.")] = None,
    recognisers: Annotated[
        Path | None, typer.Option(help="Folder of the recognisers; otherwise EDGE_STSCQ_DATA/recognisers.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for rate.json, rate.png and the points measured so far.")
    ] = Path("out/rate"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Verification accuracy against bytes: our layers, JPEG to VVC at their smallest, and published figures.

    What was measured is kept in the output folder: an interrupted run goes on where it stopped, and another model is
    put beside the same peers without measuring them again.
    """
    from rich.console import Console

    from edge_stscq import api
    from edge_stscq.errors import require

    require("torch", "train")
    require("matplotlib", "bench")
    require("scipy", "bench")
    from edge_stscq.cli.tables import rate_table
    from edge_stscq.codec.model import Codec
    from edge_stscq.evaluation.artifact import coded_by
    from edge_stscq.evaluation.verification.pairs import read_pairs

    listed, own = read_pairs(pairs), Codec.load(model)
    if bundle is not None:
        own = coded_by(own, bundle)
    report = api.rate(
        own, crops, listed if first is None else listed.head(first), peers=codec or (), recognizers=recognisers,
        output=output, steps=progress_bar,
    )  # fmt: skip
    if as_json:
        typer.echo(report.model_dump_json())
        return
    console = Console()
    console.print(rate_table(report))
    console.print(f"{output / 'rate.png'}: look at it", highlight=False)


@bench.command("encode", cls=Command)
@with_verbosity
def encode(
    bundles: Annotated[
        list[Path], typer.Argument(parser=folder, help="Bundles of one model, made by `edge-stscq export`.")
    ],
    model: Model = MODEL,
    faces: Annotated[
        Path | None, typer.Option(help="Folder or .tar of aligned crops; otherwise the first bundle's golden pictures.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="At most this many faces, spread over all of them.")] = 32,
    threads: Annotated[list[int] | None, typer.Option(min=1, help="May be repeated. Otherwise 1 and 2.")] = None,
    rounds: Annotated[int, typer.Option(min=5, help="Times that each encoder runs, with each number of threads.")] = 60,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Time, memory, size and fallbacks of artefacts beside the student and teacher in torch, WebP and AVIF.

    Every bundle is first tried in a fresh process. Exit code 1: one cannot be run or does not answer as at export.
    """
    from rich.console import Console

    from edge_stscq import api
    from edge_stscq.errors import EXIT_CHECK_FAILED, require

    require("torch", "train")
    from edge_stscq.cli.tables import encode_table
    from edge_stscq.codec.model import Codec
    from edge_stscq.data.crops import load_faces

    pictures = None if faces is None else load_faces(faces, count=count)
    report = api.benchmark(
        bundles, Codec.load(model), pictures, threads=threads or (1, 2), rounds=rounds, steps=progress_bar
    )
    if as_json:
        typer.echo(report.model_dump_json())
    else:
        Console().print(encode_table(report))
    if not report.passed:
        raise typer.Exit(EXIT_CHECK_FAILED)


@bench.command("camera", cls=Command)
@with_verbosity
def camera(
    bundle: BundleOption = BUNDLE,
    pictures: Annotated[int, typer.Option(min=2, help="Pictures that are timed in each scene.")] = 60,
    frames: Annotated[int, typer.Option(min=20, help="Pictures over which memory is watched.")] = 400,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Time and memory of `capture` on one thread, stage by stage: 640 x 480 with and without a face, and 4K.

    The pictures are films of a portrait that a package ships; milliseconds are of the processor.
    """
    from rich.console import Console

    from demo_camera.sample_portraits import portraits
    from demo_camera.speed import measure
    from edge_stscq.bundle import open_bundle

    report = measure(
        open_bundle(bundle), portraits()["astronaut"], pictures=pictures, frames=frames, steps=progress_bar
    )
    if as_json:
        typer.echo(report.model_dump_json())
        return
    console = Console()
    console.print(_camera_table(report))
    memory = report.memory
    console.print(
        f"memory: {memory.resident_mib[-1]:.0f} MiB after {frames:,} frames, {memory.growth_mib:+.1f} MiB "
        f"since the first {frames // len(memory.resident_mib):,}",
        highlight=False,
    )


def _camera_table(report: "CameraReport") -> "Table":
    """Scenes down, stages across; milliseconds, then frames a second."""
    from rich.table import Table

    from demo_camera.speed import STAGES

    table = Table("", title=f"{report.bundle}, {report.runtime}, one thread: median ms, frames a second")
    for head in (*STAGES, "frames/s"):
        table.add_column(head.replace("entropy-code", "code"), justify="right")
    for scene in report.scenes:
        times = (scene.stages.get(stage) for stage in STAGES)
        table.add_row(
            f"{scene.name}\n{scene.width} x {scene.height}",
            *("-" if time is None else f"{time.median_ms:.2f}" for time in times),
            f"{scene.frames_per_second:.1f}",
        )
    return table
