"""A sheet of faces as they are decoded layer by layer: what people should look at beside the figures.

    python -m benchmarks.docs.contact_sheet --faces CROPS [--model DIR] [--originals] -o docs/faces.jpg

Faces stand in bands of eight; each band is one row a layer, basic first. `--originals` puts the crops above them.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.released import MODEL
from edge_stscq._files import write_file
from edge_stscq._images import encode_image, mosaic
from edge_stscq.codec.model import Codec
from edge_stscq.data.crops import load_faces

ACROSS = 8


def main(
    faces: Annotated[Path, typer.Option(help="Folder or .tar of aligned crops.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Picture to write: .png, .jpg or .webp.")],
    model: Annotated[Path, typer.Option(help="Model folder.")] = MODEL,
    count: Annotated[int, typer.Option(min=ACROSS, help="This many faces, spread over all of them.")] = 24,
    originals: Annotated[bool, typer.Option("--originals", help="Put the original above the layers.")] = False,
) -> None:
    """Write the sheet."""
    images = load_faces(faces, count=count).images
    codec = Codec.load(model)
    codes = codec.encode(images)
    rows = [images] if originals else []
    rows += [codec.decode(codes, layers) for layers in range(1, len(codec.config.layers) + 1)]
    bands = [
        mosaic([row[start : start + ACROSS] for row in rows]) for start in range(0, len(images) - ACROSS + 1, ACROSS)
    ]
    gap = np.full((8, bands[0].shape[1], 3), 255, np.uint8)
    sheet = np.concatenate([part for band in bands for part in (band, gap)][:-1])
    write_file(output, encode_image(sheet, output.suffix))
    typer.echo(output)


if __name__ == "__main__":
    typer.run(main)
