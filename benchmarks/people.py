"""Perceptual quality of decoded faces, as far as metrics tell: without recognisers, so it may run at any time.

    EDGE_STSCQ_DATA=DIR python -m benchmarks.people [--model DIR]     -> benchmarks/results/people-MODEL.json

Decodes LFW crops spread evenly over all that are there. Frechet distances of different numbers of faces do not compare.
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.record import write
from benchmarks.released import MODEL
from edge_stscq.cli.ui import progress_bar
from edge_stscq.codec.model import Codec, batches
from edge_stscq.data.masks import load_masked_faces
from edge_stscq.evaluation.appearance.meter import COMPARED, AppearanceMeter
from edge_stscq.evaluation.artifact import coded_by
from edge_stscq.evaluation.metrics import ms_ssim, pooled_psnr, squared_error


def main(
    data: Annotated[Path, typer.Option(envvar="EDGE_STSCQ_DATA", help="Folder with lfw/.")],
    model: Annotated[Path, typer.Option(help="Model folder.")] = MODEL,
    bundle: Annotated[Path | None, typer.Option(help="Encode with this bundle instead of the float32 student.")] = None,
    crops: Annotated[Path | None, typer.Option(help="Folder or .tar of crops; otherwise all of LFW's.")] = None,
    count: Annotated[int | None, typer.Option(min=2, help="At most this many faces, spread over all of them.")] = None,
    compared: Annotated[int, typer.Option(min=1, help="Faces that the two slow metrics compare.")] = COMPARED,
) -> None:
    """Write benchmarks/results/people-NAME.json."""
    codec = Codec.load(model)
    if bundle is not None:
        codec = coded_by(codec, bundle)
    faces, masks = load_masked_faces(crops or data / "lfw" / "lfw-crops.tar", count=count)
    ends = codec.config.layer_ends
    meter = AppearanceMeter(len(faces), compared)
    errors: dict[int, list[float]] = {layer: [] for layer in range(1, len(ends) + 1)}
    likeness: dict[int, list[float]] = {layer: [] for layer in errors}
    with progress_bar("faces", len(faces)) as progress:
        for part in batches(len(faces)):
            images, mask = faces.images[part], None if masks is None else masks[part]
            codes = codec.encode(images)
            decoded = {layer: codec.decode(codes, layer) for layer in errors}
            for layer, decoded_faces in decoded.items():
                errors[layer].extend(squared_error(images, decoded_faces, mask))
                likeness[layer].extend(ms_ssim(images, decoded_faces, mask))
            meter.add(images, decoded, mask)
            progress(len(images))
    layers: list[dict[str, Any]] = [
        {
            "tokens": ends[layer - 1], "psnr": pooled_psnr(np.array(errors[layer])),
            "ms_ssim": float(np.mean(likeness[layer])), **meter.result(layer).model_dump(),
        }
        for layer in errors
    ]  # fmt: skip
    content = {
        "subject": codec.name, "model": codec.config.name, "faces": len(faces), "masked": masks is not None,
        "frechet_between_halves": meter.between_halves(), "layers": layers,
    }  # fmt: skip
    typer.echo(write(f"people-{codec.config.name}", content))


if __name__ == "__main__":
    typer.run(main)
