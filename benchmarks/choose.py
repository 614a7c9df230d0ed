"""The figures that training runs are chosen by: dlib on pairs of LFW's view 1, Frechet distance on validation crops.

    EDGE_STSCQ_DATA=DIR python -m benchmarks.choose --model DIR [--bundle BUNDLE] [-o FILE]

The data folder holds `lfw/lfw-crops.tar`, `lfw/pairsDevTrain.txt`, `lfw/pairs.txt` and `faces/val.tar`. Of the 2,200
pairs of `pairsDevTrain.txt` 1,250 have both pictures in `lfw-crops.tar` (710 of one person, 540 of two). The other LFW
crops, of people whom training sees, are left alone, and so are pairs that view 2 tests. Accuracies of 300 pairs have a
standard error of a point or more: look at the mean distance, too. Writes one JSON object to the file, or prints it.
"""

import json
import tarfile
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from benchmarks.record import record
from edge_stscq._files import write_file
from edge_stscq.cli.ui import progress_bar
from edge_stscq.codec.model import Codec
from edge_stscq.data.crops import load_faces
from edge_stscq.data.masks import load_masked_faces
from edge_stscq.errors import EdgeError
from edge_stscq.evaluation.artifact import coded_by
from edge_stscq.evaluation.choosing import PAIRS, choice, choose_pairs


def main(
    model: Annotated[Path, typer.Option(help="Model folder.")],
    data: Annotated[Path, typer.Option(envvar="EDGE_STSCQ_DATA", help="Folder with lfw/ and faces/.")],
    bundle: Annotated[Path | None, typer.Option(help="Encode with this bundle instead of the float32 encoder.")] = None,
    count: Annotated[int, typer.Option(min=2, help="Pairs, half of one person; an even number.")] = PAIRS,
    faces: Annotated[int | None, typer.Option(min=2, help="At most this many validation crops.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write; otherwise stdout.")] = None,
) -> None:
    """Measure one model."""
    codec = Codec.load(model)
    if bundle is not None:
        codec = coded_by(codec, bundle)
    crops = data / "lfw" / "lfw-crops.tar"
    pairs = choose_pairs(data / "lfw" / "pairsDevTrain.txt", _names(crops), data / "lfw" / "pairs.txt", count)
    people = load_faces(crops, names=pairs.names)
    validation, masks = load_masked_faces(data / "faces" / "val.tar", count=faces)
    with progress_bar("faces", len(people) + len(validation)) as progress:
        found = choice(codec, people, pairs, validation, masks, progress)
    text = json.dumps(record(found.model_dump()), indent=2, allow_nan=False) + "\n"
    if output is None:
        typer.echo(text, nl=False)
    else:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_file(output, text.encode())
        typer.echo(output)


def _names(crops: Path) -> frozenset[str]:
    """Names of the pictures in a `.tar`, without folder and suffix."""
    try:
        with tarfile.open(crops, "r:") as archive:
            return frozenset(PurePosixPath(name).stem for name in archive.getnames())
    except (OSError, tarfile.TarError) as error:
        raise EdgeError(f"{crops} cannot be read ({error}); set EDGE_STSCQ_DATA") from None


if __name__ == "__main__":
    typer.run(main)
