"""Shards of crops: raw files, uint8 [N, 128, 128, 3] RGB, from which every place reads the same bytes.

Crops come in threes: a real face, the same face mirrored, and a picture drawn by the program that draws golden pictures
(`targets/golden.py`), so that the first 10,000 are as mixed as all of them, and a longer set begins with a shorter one.
Real faces are taken in a shuffled order that depends on nothing but their names. Where real faces are not at hand, or
have run out, all are drawn. `crops.json` beside the shards tells what is in them, with the SHA-256 of each.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_stscq._files import write_file
from edge_stscq.data.crops import face_names, load_faces
from edge_stscq.errors import EdgeError
from targets import golden

SHARD = 100
"""Crops in a shard, 5 MB: what a place may lose when it is cut off; an emulated one takes minutes for it."""
SEED = 1
"""Of the drawn pictures; a bundle's golden ones are drawn with 0."""
DESCRIPTION = "crops.json"
KINDS = ("real", "mirrored", "drawn")
_READ = 500
"""Faces read at once: each time goes through all archives."""


@dataclass(frozen=True)
class Shard:
    """A file of `count` crops and its SHA-256."""

    path: Path
    count: int
    sha256: str


def make(folder: Path, count: int, archives: list[Path]) -> dict[str, Any]:
    """Write the shards of `count` crops and their description, which is returned.

    Args:
        folder: made if absent. A shard that already has the right bytes is left alone.
        archives: tar files of real crops.

    Raises:
        EdgeError: a tar file is not readable, or the folder not writable.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures, kinds, shards = mixed(archives), dict.fromkeys(KINDS, 0), []
    for start in range(0, count, SHARD):
        found = list(islice(pictures, min(SHARD, count - start)))
        for kind, _ in found:
            kinds[kind] += 1
        data = np.stack([picture for _, picture in found]).tobytes()
        sha256, path = hashlib.sha256(data).hexdigest(), folder / f"{start // SHARD:03}.u8"
        if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            write_file(path, data)
        shards.append({"file": path.name, "count": len(found), "sha256": sha256})
    description = {
        "count": count, **kinds, "sources": sorted(path.name for path in archives),
        "sha256": hashlib.sha256("".join(shard["sha256"] for shard in shards).encode()).hexdigest(), "shards": shards,
    }  # fmt: skip
    write_file(folder / DESCRIPTION, (json.dumps(description, indent=1) + "\n").encode())
    return description


def describe(folder: Path) -> dict[str, Any]:
    """Description of the shards in a folder, without the list of them.

    Raises:
        EdgeError: there are none.
    """
    return {key: value for key, value in _description(folder).items() if key != "shards"}


def shards(folder: Path, count: int | None = None) -> list[Shard]:
    """Whole shards that hold the first `count` crops, or all.

    Raises:
        EdgeError: there are not that many crops.
    """
    found = [Shard(folder / each["file"], each["count"], each["sha256"]) for each in _description(folder)["shards"]]
    have = sum(shard.count for shard in found)
    if count is not None and count > have:
        raise EdgeError(f"{folder} holds {have:,} crops, not {count:,}; make more: python -m benchmarks.equality crops")
    chosen: list[Shard] = []
    while found and (count is None or sum(shard.count for shard in chosen) < count):
        chosen.append(found.pop(0))
    return chosen


def mixed(archives: list[Path]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Crops uint8 [128, 128, 3] without end, each with its kind."""
    drawn = golden.draw(SEED)
    for face in _shuffled(archives):
        yield "real", face
        yield "mirrored", face[:, ::-1]
        yield "drawn", next(drawn)
    for picture in drawn:
        yield "drawn", picture


def _shuffled(archives: list[Path]) -> Iterator[NDArray[np.uint8]]:
    """All faces, read some hundred at a time."""
    archives = sorted(archives, key=lambda path: path.name)
    places = [(path, name) for path in archives for name in face_names(path)]
    order = np.random.default_rng(0).permutation(len(places))
    for start in range(0, len(places), _READ):
        wanted = [places[index] for index in order[start : start + _READ]]
        faces: dict[tuple[Path, str], NDArray[np.uint8]] = {}
        for path in {path for path, _ in wanted}:
            found = load_faces(path, names=[name for each, name in wanted if each == path])
            faces |= {(path, name): image for name, image in zip(found.names, found.images, strict=True)}
        for place in wanted:
            yield faces[place]


def _description(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / DESCRIPTION).read_bytes())
    except (OSError, ValueError) as error:
        raise EdgeError(f"{folder} holds no crops; make them: python -m benchmarks.equality crops") from error
    return found
