"""`edge-stscq align`: photographs to aligned crops of the same names."""

import json
from pathlib import Path
from typing import Annotated

import typer

from edge_stscq.cli.options import AsJson
from edge_stscq.cli.ui import count, note, progress_bar


def align(
    photos: Annotated[Path, typer.Argument(help="Folder of photographs, with its subfolders, or one photograph.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the crops; made if absent.")],
    as_json: AsJson = False,
) -> None:
    """Cut the largest face of each photograph to an aligned crop: PHOTOS/anna/1.jpg to OUTPUT/anna/1.png.

    What `encode`, `quantize`, `parity`, `evaluate` and training read. Photographs without a face, or that cannot be
    read, are listed and left out; exit code 1 if there was no face at all.
    """
    from demo_camera.sources import SUFFIXES
    from edge_stscq._files import make_folder, write_file
    from edge_stscq._images import encode_image, read_image
    from edge_stscq.device.crop import crop_face
    from edge_stscq.device.detect import Detector
    from edge_stscq.errors import EXIT_CHECK_FAILED, EdgeError

    root = photos if photos.is_dir() else photos.parent
    found = sorted(photos.rglob("*")) if photos.is_dir() else [photos]
    paths = [path for path in found if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
    if not photos.exists():
        raise EdgeError(f"{photos} does not exist; give a folder of photographs, or one photograph")
    if not paths:
        raise EdgeError(f"{photos} has no photographs; give a folder with JPEG, PNG or WebP files")
    targets = [output / path.relative_to(root).with_suffix(".png") for path in paths]
    if twice := [path for path, target in zip(paths, targets, strict=True) if targets.count(target) > 1]:
        raise EdgeError(f"{twice[0]} and {twice[1]} would both become one crop; rename one of them")
    detector, left_out, written = Detector(), {}, 0
    with progress_bar("photographs", len(paths)) as progress:
        for path, target in zip(paths, targets, strict=True):
            name = path.relative_to(root).as_posix()
            try:
                picture = read_image(path)
                face = detector.largest(picture)
                if face is None:
                    raise EdgeError("no face found")
            except EdgeError as error:
                left_out[name] = str(error)
            else:
                make_folder(target.parent)
                write_file(target, encode_image(crop_face(picture, face.points)))
                written += 1
            progress(1)
    if as_json:
        typer.echo(json.dumps({"output": str(output), "crops": written, "left_out": left_out}))
    else:
        typer.echo(f"{count(written, 'crop')} in {output}, {count(len(left_out), 'photograph')} left out")
        for name, why in left_out.items():
            note(f"{name}: {why}")
    if not written:
        raise typer.Exit(EXIT_CHECK_FAILED)
