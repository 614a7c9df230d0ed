"""A sheet of faces as they are decoded layer by layer: what people should look at beside the figures.

    python -m benchmarks.docs.contact_sheet --faces CROPS [--model DIR ...] [--originals] -o docs/faces.jpg
    python -m benchmarks.docs.contact_sheet --faces lfw-crops.tar --names benchmarks/docs/named_faces.toml --originals
                                            --model models/face64 --model DIR -o sheet.png

Faces stand in bands of eight; each band is one row a layer, basic first. `--originals` puts the crops above them. Of
several models, rows of equally many tokens stand beneath each other, and each row says whose it is.
"""

import tomllib
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.released import MODEL
from edge_stscq._files import write_file
from edge_stscq._images import encode_image, mosaic
from edge_stscq.codec.model import Codec
from edge_stscq.data.crops import Faces, load_faces
from edge_stscq.errors import EdgeError

ACROSS = 8
MARGIN = 104
"""Pixels for the name of a row."""
GAP = 8


def named_faces(path: Path) -> list[str]:
    """Names of crops, without suffix, from a TOML file of lists of them.

    Raises:
        EdgeError: the file holds something else, or fewer than eight names.
    """
    try:
        names = [name for group in tomllib.loads(path.read_text()).values() for name in group]
    except (OSError, ValueError, TypeError) as error:
        raise EdgeError(f"{path} holds no lists of names ({error}); see benchmarks/docs/named_faces.toml") from None
    if len(names) < ACROSS:
        raise EdgeError(f"{path} names {len(names)} faces; a band of a sheet needs {ACROSS}")
    return names


def decoded_rows(models: list[Path], images: NDArray[np.uint8]) -> list[tuple[str, NDArray[np.uint8]]]:
    """Faces as each model decodes them from each number of its layers, with the row's name, fewest tokens first."""
    rows = []
    for place, model in enumerate(models):
        codec = Codec.load(model)
        codes = codec.encode(images)
        for layers, tokens in enumerate(codec.config.layer_ends, 1):
            rows.append((tokens, place, f"{codec.config.name} {tokens}", codec.decode(codes, layers)))
    return [(name, faces) for _, _, name, faces in sorted(rows, key=lambda row: row[:2])]


def sheet(rows: list[tuple[str, NDArray[np.uint8]]], named: bool) -> NDArray[np.uint8]:
    """Bands of eight faces, uint8 [H, W, 3], of rows of equally many; with the rows' names beside them if `named`."""
    parts: list[NDArray[np.uint8]] = []
    for start in range(0, len(rows[0][1]) - ACROSS + 1, ACROSS):
        band = mosaic([faces[start : start + ACROSS] for _, faces in rows])
        if named:
            side = np.full((len(band), MARGIN, 3), 255, np.uint8)
            height = len(band) // len(rows)
            for number, (name, _) in enumerate(rows):
                at = (2, number * height + height // 2)
                cv2.putText(side, name, at, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
            band = np.concatenate([side, band], axis=1)
        parts += [band, np.full((GAP, band.shape[1], 3), 255, np.uint8)]
    return np.concatenate(parts[:-1])


def main(
    faces: Annotated[Path, typer.Option(help="Folder or .tar of aligned crops.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Picture to write: .png, .jpg or .webp.")],
    model: Annotated[list[Path] | None, typer.Option(help="Model folder; may be repeated.")] = None,
    count: Annotated[int, typer.Option(min=ACROSS, help="This many faces, spread over all of them.")] = 24,
    names: Annotated[Path | None, typer.Option(help="TOML file of the names of the faces, instead.")] = None,
    originals: Annotated[bool, typer.Option("--originals", help="Put the original above the layers.")] = False,
) -> None:
    """Write the sheet."""
    models = model or [MODEL]
    images = _chosen(faces, names, count)
    rows = [("original", images)] if originals else []
    rows += decoded_rows(models, images)
    write_file(output, encode_image(sheet(rows, named=len(models) > 1), output.suffix))
    typer.echo(output)


def _chosen(faces: Path, names: Path | None, count: int) -> NDArray[np.uint8]:
    """Crops spread over all, or those that a file names, in its order."""
    if names is None:
        return load_faces(faces, count=count).images
    wanted = named_faces(names)
    found: Faces = load_faces(faces, names=wanted)
    return found.images[[found.names.index(name) for name in wanted]]


if __name__ == "__main__":
    typer.run(main)
