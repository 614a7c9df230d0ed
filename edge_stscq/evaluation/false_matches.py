"""Match thresholds of a model, from the false matches of all pairs of strangers in a set of crops.

An accuracy says which threshold parts as many pairs of one person from as many of two. A gallery compares one face with
all that are kept, so what counts there is how rarely a stranger passes: the thresholds are the scores that 1 in 1,000
and 1 in 10,000 stranger pairs pass, in the compressed domain, by each prefix of layers. The rate at these thresholds is
then counted among the people of every label, with Wilson's interval: 1 in 10,000 is claimed of all pairs together and
of no label, whose pairs are too few.
"""

import csv
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_stscq._progress import Progress, no_progress
from edge_stscq.bundle.match_rule import Cohort, MatchRule, track_average
from edge_stscq.codec.model import Codec, batches
from edge_stscq.config.match_thresholds import (
    PERHAPS_RATE,
    SAME_PERSON_RATE,
    LabelRates,
    LayerThresholds,
    Limit,
    Limits,
    MatchThresholds,
    Measurement,
    Rate,
)
from edge_stscq.data.crops import Faces, face_names, load_faces
from edge_stscq.errors import EdgeError
from edge_stscq.evaluation.subgroups import wilson
from edge_stscq.stream import Codes

LEAST_PAIRS = 100_000
"""Stranger pairs below which nothing is said of 1 in 10,000; 448 people with a face each make as many."""
TRACK_FACES = 8
"""Most faces that are averaged as a visit's."""
MAX_LIST_BYTES = 16 << 20
CENTERS, LEAST_FACES, ROUNDS = 128, 10, 25
"""Clusters of a cohort, faces in the least of them, and rounds of k-means."""
_ROWS = 512
_STEP = 1e-4
"""Thresholds are rounded up to whole steps."""


@dataclass(frozen=True)
class People:
    """Names of people, by crop.

    Attributes:
        names: of the crops, without folder and suffix.
        identity: a name of the person, of each crop.
        labels: what else is said of each crop, by the label's name; "" where nothing is.
    """

    names: tuple[str, ...]
    identity: tuple[str, ...]
    labels: Mapping[str, tuple[str, ...]]


def read_people(path: Path) -> People:
    """Read a CSV file whose first line is `name,identity` and any labels, e.g. `name,identity,age,race`.

    Raises:
        EdgeError: the file is missing, is not of this form, or names a crop twice.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_LIST_BYTES + 1)
        rows = list(csv.reader(data.decode("utf-8-sig").splitlines(), strict=True))
    except OSError as error:
        raise EdgeError(f"{path} cannot be read: {error.strerror}; point --identities at a CSV file") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise EdgeError(f"{path} is not CSV in UTF-8: {error}; write lines such as anna-1,anna") from None
    if len(data) > MAX_LIST_BYTES:
        raise EdgeError(f"{path} is over {MAX_LIST_BYTES >> 20} MiB; list fewer crops")
    head, body = (rows[0], [row for row in rows[1:] if row]) if rows else ([], [])
    if head[:2] != ["name", "identity"] or len(set(head)) != len(head):
        raise EdgeError(f"{path} must begin with the line name,identity and labels of different names, if any")
    for line, row in enumerate(rows[1:], 2):
        if row and (len(row) != len(head) or not row[0] or not row[1]):
            raise EdgeError(f"{path}: line {line} needs {len(head)} fields, a name and an identity among them")
    if not body:
        raise EdgeError(f"{path} lists no crops; write lines such as anna-1,anna")
    columns = tuple(zip(*body, strict=True))
    names = columns[0]
    if len(set(names)) != len(names):
        raise EdgeError(f"{path} lists a crop twice; leave one of the lines out")
    return People(names, columns[1], dict(zip(head[2:], columns[2:], strict=True)))


def lfw_people(names: Iterable[str]) -> People:
    """People of crops that are named as those of LFW, `Name_0001`."""
    listed = tuple(sorted(set(names)))
    return People(listed, tuple(name.rpartition("_")[0] for name in listed), {})


def gather_faces(sources: Sequence[Path], lists: Sequence[People]) -> tuple[Faces, People]:
    """Crops of all the people that are listed, from the sources in which they are, and all who are listed.

    Raises:
        EdgeError: a crop is in none of the sources or in two, or a name stands in two lists.
    """
    titles = sorted({label for one in lists for label in one.labels})
    names, identity = ([name for one in lists for name in getattr(one, what)] for what in ("names", "identity"))
    labels = {
        title: tuple(v for one in lists for v in one.labels.get(title, ("",) * len(one.names))) for title in titles
    }
    wanted, parts, left = set(names), [], set(names)
    if len(wanted) != len(names):
        raise EdgeError("a crop stands in two lists of people; leave it out of one")
    for source in sources:
        found = wanted.intersection(face_names(source))
        if twice := found - left:
            raise EdgeError(f"{source} has the crop {min(twice)} a second time; rename one of the two")
        left -= found
        if found:
            parts.append(load_faces(source, names=found))
    if left:
        raise EdgeError(f"{len(left)} of {len(wanted)} crops are in none of the sets, e.g. {min(left)}")
    faces = Faces(tuple(n for part in parts for n in part.names), np.concatenate([part.images for part in parts]))
    return faces, People(tuple(names), tuple(identity), labels)


def measure_rule(
    codec: Codec, faces: Faces, people: People, sources: Sequence[str], cohort: Mapping[str, Faces] | None = None,
    progress: Progress = no_progress,
) -> MatchRule:  # fmt: skip
    """Encode every face once, fit the cohort and measure the thresholds of each layer.

    Args:
        codec: its encoder makes the tokens; that of a bundle is what a camera has.
        faces: crops of every name in `people`, and no others.
        sources: names of the sets, for the record.
        cohort: sets of faces of other people, by name, whose clusters scores are held against; the codec's own cohort
            if None, and cosines where it has none.
        progress: told of every batch of faces done, of the cohort's, too.

    Raises:
        EdgeError: as `measure_codes`, or the cohort has too few faces.
    """
    check_people(codec, faces, people)
    codes = encode_faces(codec, faces, progress)
    if cohort is not None:
        others = [encode_faces(codec, each, progress) for each in cohort.values()]
        fitted, names, count = fit_cohort(codec, others), tuple(cohort), sum(map(len, others))
        return measure_codes(codec, faces, people, sources, codes, fitted, names, count)
    rule = codec.rule
    if rule is None or rule.cohort is None:
        return measure_codes(codec, faces, people, sources, codes, None, (), 0)
    own = rule.thresholds.measured
    return measure_codes(codec, faces, people, sources, codes, rule.cohort, own.cohort, own.cohort_faces or 0)


def encode_faces(codec: Codec, faces: Faces, progress: Progress = no_progress) -> Codes:
    """Codes of all faces; `progress` is told of every batch."""
    parts = []
    for part in batches(len(faces)):
        parts.append(codec.encode(faces.images[part]))
        progress(len(faces.images[part]))
    return Codes.concatenate(parts)


def measure_codes(
    codec: Codec, faces: Faces, people: People, sources: Sequence[str], codes: Codes, cohort: Cohort | None,
    cohort_of: Sequence[str], cohort_faces: int,
) -> MatchRule:  # fmt: skip
    """Measure the thresholds of each layer on codes that were made before.

    Args:
        codes: of `faces`, by the codec's encoder.
        cohort: that scores are held against; None for plain cosines.
        cohort_of, cohort_faces: sets and number of the faces behind it.

    Raises:
        EdgeError: they make fewer than 100,000 stranger pairs, a crop is missing, or the model has no frequency tables
            or no identity tokens in its first layer.
    """
    order, identity, pairs = check_people(codec, faces, people)
    labels = {name: np.array(values)[order] for name, values in people.labels.items()}
    rows = []
    for layers, name in enumerate(codec.config.layer_names, 1):
        density = None if cohort is None else partial(cohort.density, layers=layers)
        scores = _Scores(codec.embed(codes, layers), identity, density)
        pair = choose_limits(scores.strangers(), pairs, scores.same)
        by_label = tuple(_by_label(scores, labels, pair))
        rows.append(LayerThresholds(name=name, pair=pair, track=scores.track_limits(), labels=by_label))
    thresholds = MatchThresholds(
        model_id=codec.frames.model_id.hex(),
        measured=Measurement(
            encoder=codec.name, crops=tuple(sources), crops_sha256=hashlib.sha256(faces.images.tobytes()).hexdigest(),
            faces=len(faces), people=len(set(people.identity)), stranger_pairs=pairs,
            cohort=tuple(cohort_of), cohort_faces=cohort_faces or None,
            cohort_sha256=None if cohort is None else hashlib.sha256(cohort.to_bytes()).hexdigest(),
            track_faces=None if rows[0].track is None else TRACK_FACES,
        ),
        layers=tuple(rows),
    )  # fmt: skip
    return MatchRule(thresholds, cohort)


def check_people(codec: Codec, faces: Faces, people: People) -> tuple[NDArray[np.intp], NDArray[np.intp], int]:
    """Row of each face in `people`, number of its person, and how many pairs of strangers there are.

    Raises:
        EdgeError: as `measure_codes`.
    """
    at = {name: row for row, name in enumerate(people.names)}
    if missing := sorted(set(faces.names) ^ at.keys()):
        raise EdgeError(f"crops and identities do not fit: {missing[0]} is in one of them only")
    order = np.array([at[name] for name in faces.names])
    identity = np.unique(np.array(people.identity), return_inverse=True)[1][order]
    pairs = _stranger_pairs(identity)
    if pairs < LEAST_PAIRS:
        raise EdgeError(
            f"{len(faces)} faces of {len(set(people.identity))} people make {pairs:,} pairs of strangers; 1 in 10,000 "
            f"needs {LEAST_PAIRS:,}, which 448 people make"
        )
    if not codec.config.layers[0].identity:
        raise EdgeError(f"the first layer of {codec.config.name} has no identity tokens: it cannot be matched")
    return order, identity, pairs


def fit_cohort(codec: Codec, codes: Sequence[Codes]) -> Cohort:
    """Centers of spherical k-means (Dhillon & Modha 2001) over faces, in the embeddings of each number of layers.

    Raises:
        EdgeError: there are fewer than 1,280 faces.
    """
    together = Codes.concatenate(list(codes))
    if len(together) < CENTERS * LEAST_FACES:
        raise EdgeError(f"a cohort needs {CENTERS * LEAST_FACES:,} faces or more, not {len(together):,}")
    units = [codec.embed(together, layers) for layers in range(1, 1 + len(codec.config.layers))]
    return Cohort(np.stack([_spherical_centers(unit) for unit in units]).astype(np.float16))


def _spherical_centers(unit: NDArray[np.float32]) -> NDArray[np.float32]:
    """Unit vectors `[CENTERS, 128]`, each of ten faces or more."""
    draw = np.random.default_rng(0)
    centers = unit[draw.choice(len(unit), CENTERS, replace=False)]
    for _ in range(ROUNDS):
        nearest = (unit @ centers.T).argmax(1)
        sums = np.zeros_like(centers)
        np.add.at(sums, nearest, unit)
        small = np.flatnonzero(np.bincount(nearest, minlength=CENTERS) < LEAST_FACES)
        for cluster in small:  # begin anew at the mean of the faces nearest to some face
            start = unit[draw.integers(len(unit))]
            sums[cluster] = unit[np.argsort(-(unit @ start))[:LEAST_FACES]].sum(0)
        centers = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    return centers


def rate(matches: int, pairs: int) -> Rate:
    """A counted share with its interval."""
    low, high = wilson(matches, pairs)
    return Rate(matches=matches, pairs=pairs, rate=matches / pairs, low=low, high=high)


def _stranger_pairs(identity: NDArray[np.intp]) -> int:
    counts = np.bincount(identity).astype(np.int64)
    return int((counts.sum() ** 2 - (counts**2).sum()) // 2)


class _Scores:
    """Scores of the pairs of a set of faces: of strangers, and of one person.

    Args:
        unit: unit embeddings `[N, 128]`.
        identity: number of the person of each.
        density: what is taken off for a face, by half of it; None for plain cosines.
    """

    def __init__(
        self, unit: NDArray[np.float32], identity: NDArray[np.intp],
        density: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None,
    ) -> None:  # fmt: skip
        self.unit, self.identity = unit, identity
        self._density = density or (lambda unit: np.zeros(len(unit), np.float32))
        self._off = self._density(unit)

    def strangers(self, chosen: NDArray[np.bool_] | None = None) -> Iterator[NDArray[np.float32]]:
        """Of all pairs of different people, each pair once, some rows at a time; only among the `chosen` if given."""
        rows = np.arange(len(self.unit)) if chosen is None else np.flatnonzero(chosen)
        unit, identity, off = self.unit[rows], self.identity[rows], self._off[rows]
        for begin in range(0, len(unit), _ROWS):
            end = min(begin + _ROWS, len(unit))
            later = np.arange(begin, len(unit))[None] > np.arange(begin, end)[:, None]
            scores = unit[begin:end] @ unit[begin:].T - (off[begin:end, None] + off[None, begin:]) / 2
            yield scores[later & (identity[begin:end, None] != identity[None, begin:])]

    def same(self) -> NDArray[np.float32]:
        """Of all pairs of one person."""
        found = [np.empty(0, np.float32)]
        for person in self._several():
            own = self.identity == person
            scores = self.unit[own] @ self.unit[own].T - (self._off[own, None] + self._off[None, own]) / 2
            found.append(scores[np.triu_indices(len(scores), 1)])
        return np.concatenate(found)

    def track_limits(self) -> Limits | None:
        """Limits of a face against the average of another person's faces; None if these pairs are too few.

        The same person's face is held against the average of the others of it.
        """
        several = self._several()
        pairs = len(self.unit) * len(several) - int(np.isin(self.identity, several).sum())
        if pairs < LEAST_PAIRS:
            return None
        averages = np.stack([track_average(self.unit[self.identity == one][:TRACK_FACES]) for one in several])
        off, same = self._density(averages), []
        for person in several:
            rows = np.flatnonzero(self.identity == person)
            for row in rows:
                others = track_average(self.unit[rows[rows != row]][:TRACK_FACES])[None]
                taken = (self._off[row] + self._density(others)[0]) / 2
                same.append(float(self.unit[row] @ others[0] - taken))

        def strangers() -> Iterator[NDArray[np.float32]]:
            for begin in range(0, len(self.unit), _ROWS):
                part = slice(begin, begin + _ROWS)
                scores = self.unit[part] @ averages.T - (self._off[part, None] + off[None]) / 2
                yield scores[self.identity[part, None] != several[None]]

        return choose_limits(strangers(), pairs, lambda: np.array(same, np.float32))

    def _several(self) -> NDArray[np.intp]:
        """People with two faces or more."""
        return np.flatnonzero(np.bincount(self.identity) > 1)


def choose_limits(
    strangers: Iterable[NDArray[np.float32]], pairs: int, same_of: Callable[[], NDArray[np.float32]]
) -> Limits:  # fmt: skip
    """Scores that the stated shares of stranger pairs pass; only the most alike are kept on the way.

    Args:
        strangers: scores of all pairs of different people, in any parts.
        pairs: how many these are.
        same_of: gives those of one person's pairs, once the others were read.
    """
    kept = math.floor(pairs * PERHAPS_RATE) + 1
    top = np.empty(0, np.float32)
    for block in strangers:
        top = np.concatenate([top, block])
        if len(top) > kept:
            top = np.partition(top, len(top) - kept)[-kept:]
    best, same = np.sort(top.astype(np.float64))[::-1], same_of()

    def limit(share: float) -> Limit:
        score = round(math.ceil(best[math.floor(pairs * share)] / _STEP) * _STEP, 4)
        accepted = rate(int((same > score).sum()), len(same)) if len(same) else None
        matches = rate(int((best > score).sum()), pairs)
        return Limit(score=score, false_match_rate=share, measured=matches, same_accepted=accepted)

    return Limits(same_person=limit(SAME_PERSON_RATE), perhaps=limit(PERHAPS_RATE))


def _by_label(scores: _Scores, labels: Mapping[str, NDArray[np.str_]], limits: Limits) -> Iterator[LabelRates]:
    """Rates among the people of each value of each label that has two people or more."""
    for label, values in labels.items():
        for value in sorted(set(values.tolist()) - {""}):
            chosen = values == value
            found = np.concatenate([*scores.strangers(chosen)])
            if len(found):
                same_person, perhaps = (
                    rate(int((found > limit.score).sum()), len(found)) for limit in (limits.same_person, limits.perhaps)
                )
                people = len(set(scores.identity[chosen].tolist()))
                yield LabelRates(label=label, value=value, people=people, same_person=same_person, perhaps=perhaps)
