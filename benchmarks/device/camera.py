"""Speed of the capture loop by stages and its memory, as `edge-stscq bench camera` reports them.

    python -m benchmarks.device.camera bundles/onnx-int8 --frames 100000      -> benchmarks/results/camera.json

100,000 frames take twenty minutes or so on one core. Run it on an idle machine: frames a second are by the clock.
"""

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.record import write
from demo_camera.sample_portraits import portraits
from demo_camera.speed import measure
from edge_stscq.bundle import open_bundle
from edge_stscq.cli.ui import progress_bar


def main(
    bundle: Annotated[Path, typer.Argument(help="Bundle of the encoder.")],
    pictures: Annotated[int, typer.Option(min=2, help="Pictures that are timed in each scene.")] = 200,
    frames: Annotated[int, typer.Option(min=20, help="Pictures over which memory is watched.")] = 100_000,
) -> None:
    """Write benchmarks/results/camera.json."""
    report = measure(
        open_bundle(bundle), portraits()["astronaut"], pictures=pictures, frames=frames, steps=progress_bar
    )
    typer.echo(write("camera", report.model_dump(mode="json")))


if __name__ == "__main__":
    typer.run(main)
