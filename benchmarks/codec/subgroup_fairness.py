"""Subgroup fairness, by the labels of the validation crops.

    EDGE_STSCQ_DATA=DIR python -m benchmarks.codec.subgroup_fairness [--model DIR]
                                                                              -> benchmarks/results/groups.json

Names of crops begin with UTKFace's labels, `age_gender_race_`. The set has one picture of most people. Measured are how
close the judge finds a decoded face to its original (IDS); false matches at fixed thresholds among the people of one
label, in the compressed domain and by the judge on decoded faces; and which groups of the codebook a label uses: a
group travels with every face, so what it tells of a person is told to whoever reads the stream.
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.judge import Judge
from benchmarks.record import write
from benchmarks.released import MODEL
from edge_stscq.codec.model import Codec
from edge_stscq.data.crops import load_faces
from edge_stscq.evaluation.artifact import coded_by
from edge_stscq.evaluation.metrics import cosine
from edge_stscq.evaluation.subgroups import false_matches, group_shares, told_bits, utkface_labels
from edge_stscq.recognizers import HELD_OUT, load_recognizers


def main(
    data: Annotated[Path, typer.Option(envvar="EDGE_STSCQ_DATA", help="Folder with faces/ and recognisers/.")],
    model: Annotated[Path, typer.Option(help="Model folder.")] = MODEL,
    bundle: Annotated[Path | None, typer.Option(help="Encode with this bundle instead of the float32 student.")] = None,
    judge: Judge = HELD_OUT,
) -> None:
    """Write benchmarks/results/groups.json."""
    faces = load_faces(data / "faces" / "val.tar")
    codec = Codec.load(model)
    if bundle is not None:
        codec = coded_by(codec, bundle)
    net = load_recognizers(data / "recognisers", [judge])[judge]
    original, codes = net.embed(faces.images), codec.encode(faces.images)
    names = codec.config.layer_names
    seen = {name: net.embed(codec.decode(codes, layer)) for layer, name in enumerate(names, 1)}
    cosines = {name: cosine(original, vectors) for name, vectors in seen.items()}
    matched = {
        name: codec.embed(codes, layer)
        for layer, name in enumerate(names, 1)
        if sum(part.identity for part in codec.config.layers[:layer])
    }

    def row(chosen: NDArray[np.bool_]) -> dict[str, Any]:
        count = int(chosen.sum())
        means = {name: round(float(values[chosen].mean()), 4) for name, values in cosines.items()}
        errors = {name: round(float(values[chosen].std() / np.sqrt(count)), 4) for name, values in cosines.items()}
        return {
            "faces": count, "identity": means, "standard_error": errors,
            "false_matches": {
                "originals": _rates(original[chosen]),
                "compressed": {name: _rates(vectors[chosen]) for name, vectors in matched.items()},
                "decoded": {name: _rates(vectors[chosen]) for name, vectors in seen.items()},
            },
            "codebook_groups": group_shares(codes.group[chosen], codec.config.groups),
        }  # fmt: skip

    labels = [(label, value, chosen) for label, value, chosen in utkface_labels(faces.names) if chosen.sum() > 1]
    columns = {name: np.argmax([chosen for label, _, chosen in labels if label == name], 0) for name, _, _ in labels}
    content = {
        "subject": codec.name, "judge": judge, "all": row(np.ones(len(faces), bool)),
        "groups": [{"label": label, "value": value} | row(chosen) for label, value, chosen in labels],
        "bits_told_by_codebook_group": {name: told_bits(codes.group, column) for name, column in columns.items()},
    }  # fmt: skip
    typer.echo(write("groups", content))


def _rates(unit: NDArray[np.float32]) -> list[dict[str, Any]]:
    return [rate.model_dump() for rate in false_matches(unit)]


if __name__ == "__main__":
    typer.run(main)
