"""`edge-stscq quantize`: make a student ready for int8 on real faces, once, where the faces are."""

import json
from pathlib import Path
from typing import Annotated

import typer

FEW = 300
"""Below this many faces the ranges depend on which they are."""


def quantize(
    faces: Annotated[Path, typer.Option(help="Folder or .tar of aligned crops, 128 x 128 or 144 x 144.")],
    model: Annotated[Path, typer.Option(help="Folder of the model; its calibration is replaced.")] = Path(
        "models/face64"
    ),
    count: Annotated[int, typer.Option(min=1, help="At most this many faces, spread over all of them.")] = 512,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Equalise the student's channels, calibrate its int8 graph and keep the ranges, not the faces.

    Rewrites MODEL/student.safetensors (the same function, other weights) and MODEL/calibration.safetensors.
    """
    from rich.console import Console
    from rich.progress import Progress

    from edge_stscq.errors import require

    require("torch", "executorch")
    import torch

    from edge_stscq.codec.store import load_student, save_student
    from edge_stscq.evaluation.faces import load_faces
    from quantization import calibrate, equalise

    console = Console(stderr=True)
    student, crops = load_student(model), load_faces(faces, count=count)
    if len(crops) < FEW:
        console.print(f"[yellow]only {len(crops)} faces[/yellow]: at least {FEW} are recommended")
    with console.status("equalising channels"):
        equalise(student, torch.from_numpy(crops.images))
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("faces", total=len(crops))
        calibration = calibrate(student, crops.images, lambda pictures: progress.advance(bar, pictures))
    save_student(model, student)
    path = calibration.save(model)
    if as_json:
        report = {
            "calibration": str(path), "faces": calibration.count, "faces_sha256": calibration.faces_sha256,
            "backbone_sha256": calibration.backbone_sha256, "tensors": len(calibration.ranges),
        }  # fmt: skip
        typer.echo(json.dumps(report))
        return
    typer.echo(f"{path}: ranges of {len(calibration.ranges)} tensors from {calibration.count} faces")
    typer.echo(f"next:\n  edge-stscq export --model {model} --target all")
