"""The figures that training runs are chosen by, so that the judge can stay unseen.

Whoever chooses by a judge trains with it, slowly. So runs are chosen by dlib on pairs of LFW's view 1, which is there
for that, and by Frechet distance on the validation crops; the judge looks at releases only.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from edge_stscq._progress import Progress, no_progress
from edge_stscq.codec.model import Codec, batches
from edge_stscq.data.crops import Faces
from edge_stscq.errors import EdgeError
from edge_stscq.evaluation.appearance.frechet import Moments, frechet_distance
from edge_stscq.evaluation.appearance.masked import Mask, only_picture
from edge_stscq.evaluation.appearance.mobilenet import WIDTH, load_mobilenet, pooled_features
from edge_stscq.evaluation.verification.pairs import best_threshold, read_pair_lines
from edge_stscq.recognizers.dlib_resnet import DlibRecognizer
from edge_stscq.stream import Codes

PAIRS = 300


class ChosenPairs(BaseModel):
    """Pairs of pictures, half of one person each, first the same."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    first: tuple[str, ...]
    second: tuple[str, ...]
    present: int = Field(description="pairs of the list whose pictures are there")
    listed: int
    digest: str = Field(description="of all names: figures of other pairs do not compare")

    @property
    def same(self) -> NDArray[np.bool_]:
        return np.arange(len(self.first)) < len(self.first) // 2

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self.first) | frozenset(self.second)


class ChosenBy(BaseModel):
    """Size and accuracy of one number of layers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: int
    payload_bytes: float = Field(description="mean over the faces of the pairs")
    accuracy: float = Field(description="dlib on decoded pairs at its best threshold of these pairs")
    standard_error: float = Field(description="of the accuracy, binomial")
    distance: float = Field(description="mean of dlib's between decoded face and original; less is better")
    frechet: float = Field(description="MobileNetV2, decoded against original validation crops; less is better")


class Choice(BaseModel):
    """The figures of one model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subject: str
    model: str
    recogniser: str
    pairs: ChosenPairs
    originals: float = Field(description="dlib's accuracy on the originals")
    faces: int = Field(description="validation crops")
    layers: tuple[ChosenBy, ...]


def choose_pairs(
    path: Path, available: frozenset[str], excluded: Path | None = None, count: int = PAIRS
) -> ChosenPairs:
    """Draw `count` pairs evenly from a list of LFW's view 1, half same and half not.

    Args:
        path: `pairsDevTrain.txt`.
        available: names of pictures that are there.
        excluded: `pairs.txt` of view 2, no pair of which is taken.
        count: an even number.

    Raises:
        EdgeError: `count` is odd, a list cannot be read, or has too few pairs whose pictures are there.
    """
    if count < 2 or count % 2:
        raise EdgeError(f"{count} pairs cannot be half of one person and half of two; use an even --count")
    listed = read_pair_lines(path)
    tested = {frozenset(row[:2]) for row in read_pair_lines(excluded)} if excluded else set()
    present = [row for row in listed if {row.first, row.second} <= available]
    rows = []
    for same in (True, False):
        found = [row for row in present if row.same == same and frozenset(row[:2]) not in tested]
        wanted = count // 2
        if len(found) < wanted:
            kind = "one person" if same else "two people"
            raise EdgeError(f"{path}: {len(found)} pairs of {kind} have both pictures, not {wanted}; use --count")
        rows += [found[index * len(found) // wanted] for index in range(wanted)]
    first, second = tuple(row.first for row in rows), tuple(row.second for row in rows)
    digest = hashlib.sha256("\n".join(first + second).encode()).hexdigest()[:12]
    return ChosenPairs(first=first, second=second, present=len(present), listed=len(listed), digest=digest)


def choice(
    codec: Codec, people: Faces, pairs: ChosenPairs, validation: Faces, masks: Mask | None = None,
    progress: Progress = no_progress,
) -> Choice:  # fmt: skip
    """Measure one model.

    Args:
        people: crops of at least every name in `pairs`.
        validation: crops for the Frechet distance.
        masks: what of these is picture, bool or float [N,128,128]; otherwise all of it.
        progress: told of every face done, of both sets.

    Raises:
        MissingExtraError: a package that brings a network is not installed.
    """
    layers = range(1, len(codec.config.layer_ends) + 1)
    net = DlibRecognizer()
    frechet = _frechet(codec, validation, masks, progress)
    codes: list[Codes] = []
    seen: dict[int, list[NDArray[np.float32]]] = {layer: [] for layer in (0, *layers)}  # 0: the originals
    for part in batches(len(people)):
        codes.append(codec.encode(people.images[part]))
        seen[0].append(net.embed(people.images[part]))
        for layer in layers:
            seen[layer].append(net.embed(codec.decode(codes[-1], layer)))
        progress(len(seen[0][-1]))
    vectors = {layer: np.concatenate(rows) for layer, rows in seen.items()}
    whole = Codes.concatenate(codes)
    at = {name: index for index, name in enumerate(people.names)}
    first, second = ([at[name] for name in names] for names in (pairs.first, pairs.second))

    def accuracy(embeddings: NDArray[np.float32]) -> float:
        scores = -np.linalg.norm(embeddings[first] - embeddings[second], axis=1).astype(np.float64)
        return float(np.mean((scores > best_threshold(scores, pairs.same)) == pairs.same))

    def row(layer: int) -> ChosenBy:
        share = accuracy(vectors[layer])
        return ChosenBy(
            tokens=codec.config.layer_ends[layer - 1],
            payload_bytes=float(codec.payload_bytes(whole, layer).mean()),
            accuracy=share,
            standard_error=float(np.sqrt(share * (1 - share) / len(pairs.first))),
            distance=float(np.linalg.norm(vectors[0] - vectors[layer], axis=1).mean()),
            frechet=frechet[layer],
        )

    return Choice(
        subject=codec.name, model=codec.config.name, recogniser=net.name, pairs=pairs,
        originals=accuracy(vectors[0]), faces=len(validation), layers=tuple(map(row, layers)),
    )  # fmt: skip


def _frechet(codec: Codec, faces: Faces, masks: Mask | None, progress: Progress) -> Mapping[int, float]:
    """Frechet distance between decoded and original faces, by number of layers."""
    net = load_mobilenet()
    originals = Moments(WIDTH)
    decoded = {layer: Moments(WIDTH) for layer in range(1, len(codec.config.layer_ends) + 1)}
    for part in batches(len(faces)):
        images, mask = faces.images[part], None if masks is None else masks[part]
        codes = codec.encode(images)
        originals.add(pooled_features(net, images))
        for layer, moments in decoded.items():
            moments.add(pooled_features(net, only_picture(images, codec.decode(codes, layer), mask)))
        progress(len(images))
    return {layer: frechet_distance(originals, moments) for layer, moments in decoded.items()}
