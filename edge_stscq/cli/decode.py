"""`edge-stscq decode`: a stream file to pictures, without a server."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from edge_stscq.cli.options import MODEL, Model
from edge_stscq.cli.ui import count

BATCH = 32


def decode(
    stream: Annotated[Path, typer.Argument(help="File of frames, made by `encode` or `capture`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the PNG files; made if absent.")],
    model: Model = MODEL,
    layers: Annotated[
        int | None, typer.Option(min=1, max=15, help="Decode at most this many layers of each face. Otherwise all.")
    ] = None,
    device: Annotated[Literal["cpu", "cuda"], typer.Option("--accelerator", help="cuda decodes in bfloat16.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as one JSON object.")] = False,
) -> None:
    """Decode every face of a stream to OUTPUT/000000.png, 000001.png, ...; a damaged stream writes nothing."""
    from edge_stscq.errors import EdgeError, FrameError, require

    require("torch", "server")
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from edge_stscq._files import make_folder, write_file
    from edge_stscq._images import encode_image
    from edge_stscq.codec.execution_profile import PROFILES
    from edge_stscq.codec.model import Codec
    from edge_stscq.stream.frame import read_stream

    data = read_stream(stream)
    codec = Codec.load(model, device=device, profile=PROFILES[device])
    ends = codec.config.layer_ends
    most = len(ends) if layers is None else codec.config.check_layers(layers)
    try:
        coded = [face.truncate(min(most, face.layers), ends) for face in codec.frames.read(data)]
    except FrameError as error:
        raise FrameError(f"{stream}: {error}") from None
    if not coded:
        raise EdgeError(f"{stream} has a header and no frame; encode a face first")
    make_folder(output)
    faces = []
    for start in range(0, len(coded), BATCH):
        batch = coded[start : start + BATCH]
        for number, (face, picture) in enumerate(zip(batch, codec.decode(batch), strict=True), start):
            path = output / f"{number:06d}.png"
            write_file(path, encode_image(picture))
            received = len(codec.frames.payload(face))
            faces.append({"file": str(path), "group": face.group, "layers": face.layers, "payload_bytes": received})
    if as_json:
        typer.echo(json.dumps({"stream": str(stream), "model_id": codec.frames.model_id.hex(), "faces": faces}))
        return
    table = Table(
        "file", "group", "layers", "payload bytes", title=f"{count(len(faces), 'face')} of {codec.config.name}"
    )
    for row in faces:
        table.add_row(*(escape(str(value)) for value in row.values()))
    Console().print(table)
