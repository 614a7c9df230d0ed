"""Attacks on protected templates, and what protection costs, for every scheme; about ten minutes of a core.

    EDGE_STSCQ_DATA=DIR python -m benchmarks.privacy [--model DIR]        -> benchmarks/results/privacy.json

The data folder holds `lfw/` and `faces/`. Sizes were chosen on pairs of LFW's view 1 that view 2 does not test; figures
are of view 2. The attacker's network learns from people who are in no pair of it. Tokens are kept in `.cache/privacy`.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from benchmarks.privacy.ablation import attention, sizes, steps
from benchmarks.privacy.accuracy import accuracy, search
from benchmarks.privacy.brute_force import brute_force
from benchmarks.privacy.faces import CodedFaces, coded_faces
from benchmarks.privacy.inversion import Attack, inversion
from benchmarks.privacy.linkage import key_reuse, linkage
from benchmarks.privacy.pictures import PictureJudge
from benchmarks.privacy.subjects import SUBJECTS
from benchmarks.record import write
from benchmarks.released import MODEL
from edge_stscq.cli.ui import progress_bar
from edge_stscq.codec.model import Codec
from edge_stscq.data.crops import load_faces
from edge_stscq.evaluation.choosing import choose_pairs
from edge_stscq.evaluation.subgroups import told_bits, utkface_labels
from edge_stscq.evaluation.verification.pairs import Pairs, read_pairs, verify
from edge_stscq.recognizers.dlib_resnet import DlibRecognizer

KNOWN = ("faces/train-lfw-extra", "faces/train-congress", "faces/train-00")
"""Archives that the attacker learns from."""
CHOSEN = 370
"""Pairs of view 1, half of one person, that are all there and that view 2 does not test."""
PEOPLE, ATTACKED, DRAWN, SEARCHED = 200, 300, 60, 4
"""Faces whose templates are linked, inverted, drawn by our decoder, and searched codeword by codeword."""
STRANGERS, FALSE_MATCHES = 400_000, 1e-3


def main(
    data: Annotated[Path, typer.Option(envvar="EDGE_STSCQ_DATA", help="Folder with lfw/ and faces/.")],
    model: Annotated[Path, typer.Option(help="Model folder.")] = MODEL,
    cache: Annotated[Path, typer.Option(help="Folder that keeps tokens of crops.")] = Path(".cache/privacy"),
) -> None:
    """Write benchmarks/results/privacy.json."""
    torch.set_num_threads(1)
    codec = Codec.load(model)

    def read(name: str) -> CodedFaces:
        with progress_bar(name, None) as progress:
            return coded_faces(codec, data / f"{name}.tar", cache, progress)

    faces, pairs = read("lfw/lfw-crops"), read_pairs(data / "lfw" / "pairs.txt")
    known = np.concatenate([read(name).embeddings for name in KNOWN])
    first, second = faces.at(pairs.first), faces.at(pairs.second)
    mates = np.flatnonzero(pairs.same)[:: int(pairs.same.sum()) // ATTACKED]
    people, threshold = _one_picture_each(faces), _threshold(faces)
    drawn = _one_pair_each(pairs)
    crops = [
        _crops(data / "lfw/lfw-crops.tar", [names[at] for at in drawn]) for names in (pairs.first, pairs.second)
    ]
    judge, truly = PictureJudge(codec, *crops, FALSE_MATCHES), faces.at(tuple(pairs.first[at] for at in drawn))
    basic = codec.embed(faces.codes, 1)
    place = {name: index for index, name in enumerate(faces.names)}
    sides = [basic[[place[name] for name in names]] for names in (pairs.first, pairs.second)]
    subjects: dict[str, Mapping[str, Any]] = {}
    for name, scheme in SUBJECTS.items():
        typer.echo(f"{time.process_time():.0f} s of processor time: {name}", err=True)
        blind, informed = (Attack(scheme, known, with_key) for with_key in (False, True))
        subjects[name] = {
            "accuracy": accuracy(scheme, first, second, pairs),
            "search": search(scheme, people),
            "linkage": linkage(scheme, people, blind.closeness),
            "key_reuse": key_reuse(scheme, people),
            "inversion": {
                kind: inversion(attack, first[mates], second[mates], threshold)
                for kind, attack in (("without_key", blind), ("with_key", informed))
            },
            "pictures": {
                kind: judge.attacked(attack, truly) for kind, attack in (("without_key", blind), ("with_key", informed))
            },
            "brute_force": brute_force(codec, faces.codes[:: len(faces.names) // SEARCHED][:SEARCHED], informed),
        }
    chosen = choose_pairs(
        data / "lfw" / "pairsDevTrain.txt", frozenset(faces.names), data / "lfw" / "pairs.txt", CHOSEN
    )
    left, right = faces.at(chosen.first), faces.at(chosen.second)
    content = {
        "model": codec.config.name, "encoder": codec.name,
        "basic": verify(np.einsum("nd,nd->n", *sides), pairs).model_dump(mode="json"),
        "known_to_attacker": len(known), "attacked": len(mates), "linked": len(people),
        "codebook_group": _told_by_group(read("faces/val")),
        "threshold": threshold, "false_matches_at_threshold": FALSE_MATCHES, "subjects": subjects,
        "pictures": {
            "people": len(drawn), "recognizer": DlibRecognizer.name, "threshold": judge.threshold,
            "photographs": judge.photographs, "drawn_of_the_embedding": judge.judge(judge.draw(truly)),
        },
        "ablation": {
            "pairs": CHOSEN, "attention": attention(left, right, chosen.same), "sizes": sizes(left, right, chosen.same),
            "steps": steps(people, left, right, chosen.same),
        },
    }  # fmt: skip
    typer.echo(write("privacy", content))


def _one_pair_each(pairs: Pairs) -> list[int]:
    """Pairs of one person each, no person twice, spread over all of them."""
    of = {pairs.first[at].rsplit("_", 1)[0]: int(at) for at in np.flatnonzero(pairs.same)}
    found = sorted(of.values())
    return found[:: len(found) // DRAWN][:DRAWN]


def _crops(source: Path, names: list[str]) -> NDArray[np.uint8]:
    """Crops of an archive in the order of these names."""
    found = load_faces(source, names=names)
    place = {name: index for index, name in enumerate(found.names)}
    return found.images[[place[name] for name in names]]


def _one_picture_each(faces: CodedFaces) -> NDArray[np.float32]:
    """Embeddings of the first pictures of people, spread over all of them."""
    firsts = [index for index, name in enumerate(faces.names) if name.endswith("_0001")]
    chosen: NDArray[np.float32] = faces.embeddings[firsts[:: len(firsts) // PEOPLE][:PEOPLE]]
    return chosen


def _told_by_group(faces: CodedFaces) -> Mapping[str, float]:
    """Bits that the codebook group, which no scheme stores and every token stream shows, tells of UTKFace's labels."""
    found: dict[str, list[NDArray[np.bool_]]] = {}
    for label, _, chosen in utkface_labels(faces.names):
        found.setdefault(label, []).append(chosen)
    return {label: told_bits(faces.codes.group, np.argmax(columns, 0)) for label, columns in found.items()}


def _threshold(faces: CodedFaces) -> float:
    """Cosine that one in a thousand pairs of strangers exceed."""
    names = np.array([name.rsplit("_", 1)[0] for name in faces.names])
    one, two = np.random.default_rng(0).integers(0, len(names), (2, STRANGERS))
    strangers = names[one] != names[two]
    cosines = np.einsum("nd,nd->n", faces.embeddings[one[strangers]], faces.embeddings[two[strangers]])
    return float(np.quantile(cosines, 1 - FALSE_MATCHES))


if __name__ == "__main__":
    typer.run(main)
