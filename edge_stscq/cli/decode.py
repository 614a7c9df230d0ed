"""`edge-stscq decode`: a stream file to pictures, without a server."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

BATCH = 32


def decode(
    stream: Annotated[Path, typer.Argument(help="File of frames, made by `encode` or `capture`.")],
    model: Annotated[Path, typer.Option(help="Folder of the model it was encoded with.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the PNG files; made if absent.")],
    layers: Annotated[
        int | None, typer.Option(min=1, max=15, help="Decode at most this many layers of each face. Otherwise all.")
    ] = None,
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="cuda decodes in bfloat16.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as one JSON object.")] = False,
) -> None:
    """Decode every face of a stream to OUTPUT/000000.png, 000001.png, ...; a damaged stream writes nothing."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from edge_stscq.client.split import read_stream
    from edge_stscq.errors import EdgeError, FrameError
    from edge_stscq.server.decode_service import DecodeService, Job
    from edge_stscq.stream.files import write_file

    data = read_stream(stream)
    service = DecodeService(model, device)
    most = len(service.config.layers) if layers is None else service.config.check_layers(layers)
    try:
        jobs = [Job(face, min(most, face.layers)) for face in service.codec.iter_stream(data)]
    except FrameError as error:
        raise FrameError(f"{stream}: {error}") from None
    if not jobs:
        raise EdgeError(f"{stream} has a header and no frame; encode a face first")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EdgeError(f"cannot make {output}: {error.strerror}; choose another folder with -o") from None
    faces = []
    for start in range(0, len(jobs), BATCH):
        batch = jobs[start : start + BATCH]
        for number, (job, png) in enumerate(zip(batch, service.paint_png(batch), strict=True), start):
            path = output / f"{number:06d}.png"
            write_file(path, png)
            received = service.codec.payload_size(job.face.truncate(job.layers, service.config.layer_ends))
            faces.append({"file": str(path), "group": job.face.group, "layers": job.layers, "payload_bytes": received})
    if as_json:
        typer.echo(json.dumps({"stream": str(stream), "model_id": service.model_id.hex(), "faces": faces}))
        return
    table = Table("file", "group", "layers", "payload bytes", title=f"{len(faces)} faces of {service.config.name}")
    for face in faces:
        table.add_row(*(escape(str(value)) for value in face.values()))
    Console().print(table)
