"""For whom is it worse? Cosine to the original by the labels of the validation crops.

    EDGE_STSCQ_DATA=DIR python -m benchmarks.groups --model models/face64     -> benchmarks/results/groups.json

Names of crops begin with UTKFace's labels, `age_gender_race_`. The set has one picture of most people, so there are no
pairs to verify: what is measured is how close the judge finds a decoded face to its original (IDS).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.record import write
from edge_stscq.errors import EdgeError
from edge_stscq.evaluation.artefact import coded_by
from edge_stscq.evaluation.faces import load_faces
from edge_stscq.evaluation.metrics import cosine
from edge_stscq.evaluation.recognisers import JUDGE, load_recognisers
from edge_stscq.evaluation.subject import open_subject

AGES = (0, 4, 13, 20, 40, 60, 200)
AGE_NAMES = ("0 to 3", "4 to 12", "13 to 19", "20 to 39", "40 to 59", "60 and older")
GENDERS = ("male", "female")
RACES = ("White", "Black", "Asian", "Indian", "other")
"""What UTKFace calls these; estimated by its authors, not asked of the people."""


def _labels(names: tuple[str, ...]) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    """Label, its value and which faces have it."""
    try:
        age, gender, race = np.array([[int(part) for part in name.split("_")[:3]] for name in names]).T
    except ValueError:
        raise EdgeError("names of crops do not begin with age_gender_race_; use UTKFace's val.tar") from None
    columns = (
        ("age", AGE_NAMES, np.digitize(age, AGES) - 1),
        ("gender", GENDERS, gender),
        ("race", RACES, race),
    )
    for label, values, column in columns:
        for index, value in enumerate(values):
            yield label, value, column == index


def main(
    data: Annotated[Path, typer.Option(envvar="EDGE_STSCQ_DATA", help="Folder with faces/ and recognisers/.")],
    model: Annotated[Path, typer.Option(help="Model folder.")] = Path("models/face64"),
    bundle: Annotated[Path | None, typer.Option(help="Encode with this bundle instead of the float32 student.")] = None,
) -> None:
    """Write benchmarks/results/groups.json."""
    faces = load_faces(data / "faces" / "val.tar")
    subject = open_subject(model)
    if bundle is not None:
        subject = coded_by(subject, bundle, model)
    judge = load_recognisers(data / "recognisers", [JUDGE])[JUDGE]
    original, codes = judge.embed(faces.images), subject.encode(faces.images)
    cosines = {
        name: cosine(original, judge.embed(subject.decode(codes, layer)))
        for layer, name in enumerate(subject.config.layer_names, 1)
    }

    def row(chosen: NDArray[np.bool_]) -> dict[str, Any]:
        count = int(chosen.sum())
        means = {name: round(float(values[chosen].mean()), 4) for name, values in cosines.items()}
        errors = {name: round(float(values[chosen].std() / np.sqrt(count)), 4) for name, values in cosines.items()}
        return {"faces": count, "identity": means, "standard_error": errors}

    groups = [{"label": label, "value": value} | row(chosen) for label, value, chosen in _labels(faces.names)]
    everyone = row(np.ones(len(faces), bool))
    typer.echo(write("groups", {"subject": subject.name, "judge": JUDGE, "all": everyone, "groups": groups}))


if __name__ == "__main__":
    typer.run(main)
