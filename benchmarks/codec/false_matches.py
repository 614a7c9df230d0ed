"""Match rule of the released model: its cohort, its thresholds, and false matches by label with and without the cohort;
thresholds of protected templates.

    EDGE_STSCQ_DATA=DIR python -m benchmarks.codec.false_matches --bundle bundles/onnx-int8
                       -> DIR/thresholds.json, DIR/cohort.safetensors, DIR/template-thresholds.json
                                             benchmarks/results/false-matches.json

Strangers are all pairs of different people among the validation crops, whose names are labels (UTKFace), and the crops
that LFW's pairs.txt names; nobody of either set was trained on. The cohort is clusters of training faces. A label that
seems to fail by pairs of few people may hold one person twice under two names: the set has no names of people.
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.record import write
from benchmarks.released import MODEL
from edge_stscq.bundle.match_rule import MatchRule
from edge_stscq.cli.ui import progress_bar
from edge_stscq.codec.model import Codec
from edge_stscq.data.crops import face_names, load_faces
from edge_stscq.evaluation.artifact import coded_by
from edge_stscq.evaluation.false_matches import (
    People,
    encode_faces,
    fit_cohort,
    gather_faces,
    lfw_people,
    measure_codes,
)
from edge_stscq.evaluation.subgroups import utkface_labels
from edge_stscq.evaluation.template_matches import measure_templates
from edge_stscq.evaluation.verification.pairs import read_pair_lines
from edge_stscq.privacy import scheme_named

COHORT = ("train-congress.tar", "train-lfw-extra.tar", "train-00.tar")
SCHEMES = ("rotated", "polyprotect")


def utkface_people(names: list[str]) -> People:
    """A person a crop, by the labels in the crops' names."""
    labels: dict[str, list[str]] = {"age": [""] * len(names), "gender": [""] * len(names), "race": [""] * len(names)}
    for label, value, chosen in utkface_labels(names):
        for row in np.flatnonzero(chosen):
            labels[label][row] = value
    labels["race and gender"] = [f"{r}, {g}" for r, g in zip(labels["race"], labels["gender"], strict=True)]
    return People(tuple(names), tuple(names), {label: tuple(values) for label, values in labels.items()})


def main(
    data: Annotated[Path, typer.Option(envvar="EDGE_STSCQ_DATA", help="Folder with faces/ and lfw/.")],
    bundle: Annotated[Path, typer.Option(help="Encode with this bundle: what cameras have.")],
    model: Annotated[Path, typer.Option(help="Model folder.")] = MODEL,
) -> None:
    """Write the model's match rule and templates' thresholds, and benchmarks/results/false-matches.json."""
    validation, lfw = data / "faces" / "val.tar", data / "lfw" / "lfw-crops.tar"
    codec = coded_by(Codec.load(model), bundle)
    people = [
        utkface_people(face_names(validation)),
        lfw_people(name for line in read_pair_lines(data / "lfw" / "pairs.txt") for name in line[:2]),
    ]
    faces, everyone = gather_faces([validation, lfw], people)
    cohort = {name: load_faces(data / "faces" / name) for name in COHORT}
    with progress_bar("faces", len(faces) + sum(map(len, cohort.values()))) as progress:
        codes = encode_faces(codec, faces, progress)
        others = [encode_faces(codec, each, progress) for each in cohort.values()]
    fitted = fit_cohort(codec, others)
    sources = [validation.name, lfw.name]
    plain = measure_codes(codec, faces, everyone, sources, codes, None, (), 0)
    rule = measure_codes(codec, faces, everyone, sources, codes, fitted, COHORT, sum(map(len, cohort.values())))
    rule.save(model)
    with progress_bar("templates", len(faces) * len(SCHEMES)) as progress:
        schemes = [scheme_named(name) for name in SCHEMES]
        measure_templates(codec, faces, everyone, sources, codes, schemes, progress).save(model)
    content = {"model": codec.config.name, "with_cohort": _rows(rule), "cosines_alone": _rows(plain)}
    typer.echo(write("false-matches", content))


def _rows(rule: MatchRule) -> dict[str, Any]:
    return rule.thresholds.model_dump(mode="json")


if __name__ == "__main__":
    typer.run(main)
