"""Results of all places side by side: each held against the reference place, crop for crop."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.equality import answers
from benchmarks.equality.crops import Shard
from benchmarks.equality.drive import NOTES
from benchmarks.equality.places import PLACES, Setting
from benchmarks.equality.places.base import artifact_digest
from edge_stscq.errors import EdgeError


class Answered(NamedTuple):
    """A place's notes and its answers to the first shards, one array each."""

    notes: dict[str, Any]
    shards: list[NDArray[np.int32]]

    @property
    def crops(self) -> int:
        return sum(map(len, self.shards))


def collate(setting: Setting, shards: list[Shard], work: Path) -> dict[str, Any]:
    """Content of `benchmarks/results/equality.json`, from all answers of the present artefacts.

    The reference is the first place of the registry among those that answered most crops and whose equality is
    promised.

    Raises:
        EdgeError: there are no answers.
    """
    artifacts = {artifact_digest(setting.bundle(target)) for target in {place.target for place in PLACES.values()}
                 if (setting.bundles / f"{target}-int8").is_dir()}  # fmt: skip
    found = [place for place in _answered(work, shards) if place.notes["artefact"] in artifacts and place.crops]
    promised = [place for place in found if not place.notes["measured"]]
    if not promised:
        raise EdgeError(
            f"{work} holds no answers by these bundles; run: python -m benchmarks.equality run --place here"
        )
    most = max(place.crops for place in promised)
    reference = next(place for place in promised if place.crops == most)
    return {
        "model": setting.bundle("onnx").manifest.model_id,
        "name": setting.bundle("onnx").config.name,
        "reference": reference.notes["place"],
        "shards": [answers.digest([rows])[:16] for rows in reference.shards],
        "places": [_row(place, reference) for place in found],
    }


def differing(results: dict[str, Any]) -> list[str]:
    """Places that were promised to be equal and are not, or whose golden answers are not those at export."""
    return [
        row["place"]
        for row in results["places"]
        if not row["measured"]
        and (row["tokens_equal"] < row["tokens"] or row["golden"]["tokens_equal"] < row["golden"]["tokens"])
    ]


def _row(place: Answered, reference: Answered) -> dict[str, Any]:
    shared = min(len(place.shards), len(reference.shards))
    expected = reference.shards[:shared]
    compared = answers.compare(place.shards[:shared], expected)
    told = ("place", "title", "measured", "runtime", "artefact", "golden", "seconds", "date", "command", "machine",
            "versions")  # fmt: skip
    return {key: place.notes[key] for key in told} | {
        "crops": compared.crops,
        "groups_equal": compared.groups_equal,
        "tokens": compared.tokens,
        "tokens_equal": compared.tokens_equal,
        "sha256": answers.digest(place.shards[:shared]),
        "expected_sha256": answers.digest(expected),
        "differing_shards": list(compared.differing),
        "first_differing_crop": compared.first,
    }


def _answered(work: Path, shards: list[Shard]) -> Iterable[Answered]:
    """Places in the order of the registry, those of other machines behind."""
    notes = [(path.parent, json.loads(path.read_bytes())) for path in sorted(work.glob(f"answers/*/{NOTES}"))]
    order = list(PLACES)
    for folder, each in sorted(
        notes, key=lambda pair: order.index(pair[1]["place"]) if pair[1]["place"] in PLACES else len(order)
    ):
        rows = []
        for shard in shards:
            path = folder / f"{shard.path.stem}.i32"
            if each["shards"].get(shard.path.stem) != shard.sha256 or not path.exists():
                break
            rows.append(answers.read(path, shard.count, each["tokens"]))
        yield Answered(each, rows)
