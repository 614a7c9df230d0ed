"""`edge-stscq encode`: canonical crops to one stream file."""

import json
from pathlib import Path
from typing import Annotated

import typer

from edge_stscq.cli.options import BundleArgument, TrustedKey
from edge_stscq.cli.ui import count, note


def encode(
    bundle: BundleArgument,
    images: Annotated[list[Path], typer.Argument(help="Aligned crops, 128 x 128, in any common picture format.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Stream file to write (.stsq).")],
    layers: Annotated[
        int | None, typer.Option(min=1, max=15, help="Only the first N layers of each face. Otherwise all.")
    ] = None,
    threads: Annotated[
        int, typer.Option(min=0, help="Threads of the encoder; 0 leaves it to the runtime.")
    ] = 1,
    trusted_key: TrustedKey = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the sizes as one JSON object.")] = False,
) -> None:
    """Encode aligned crops; for pictures as a camera takes them use `capture`. A bad picture: no file."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from edge_stscq._files import write_file
    from edge_stscq._images import read_image
    from edge_stscq.bundle import open_bundle
    from edge_stscq.config.codec import CROP
    from edge_stscq.device import load_encoder
    from edge_stscq.errors import EdgeError
    from edge_stscq.stream.wire import bare_frame_bytes, read_frames

    opened = open_bundle(bundle, trusted_key)
    if not opened.signed:
        note(f"{bundle} is not signed; --trusted-key FILE asks for a signature")
    wanted = len(opened.config.layers) if layers is None else opened.config.check_layers(layers)
    crops = []
    for path in images:
        crop = read_image(path)
        height, width = crop.shape[:2]
        if (height, width) != (CROP, CROP):
            raise EdgeError(
                f"{path} is {width} x {height}, an aligned crop is {CROP} x {CROP}; "
                f"for other pictures: edge-stscq capture --source {path} --bundle {bundle} -o {output}"
            )
        crops.append(crop)
    encoder, frames = load_encoder(opened, threads), opened.frames
    stream = frames.write(encoder.encode(crop, wanted) for crop in crops)
    coded = [(frames.face(frame), len(frame.payload)) for _, frame in read_frames(stream)]
    faces = [
        {"file": str(path), "group": face.group, "payload_bytes": size, "wire_bytes": bare_frame_bytes(size)}
        for path, (face, size) in zip(images, coded, strict=True)
    ]
    header_bytes = len(stream) - sum(bare_frame_bytes(size) for _, size in coded)
    write_file(output, stream)
    if as_json:
        report = {
            "output": str(output), "model_id": opened.manifest.model_id, "layers": wanted, "faces": faces,
            "header_bytes": header_bytes, "stream_bytes": len(stream),
        }  # fmt: skip
        typer.echo(json.dumps(report))
        return
    table = Table(
        "file",
        "group",
        "payload bytes",
        "wire bytes",
        title=f"{count(len(faces), 'face')}, {count(wanted, 'layer')} each",
    )
    for row in faces:
        table.add_row(*(escape(str(value)) for value in row.values()))
    Console().print(table)
    typer.echo(f"{output}: {len(stream):,} bytes, {header_bytes} of them the header paid once")
    typer.echo(f"look at it with: edge-stscq decode {output} --model {opened.manifest.name} -o faces")
