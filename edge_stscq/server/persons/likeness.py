"""Likeness of visits and persons of one model, in the compressed domain, with the model's measured thresholds.

A face is a unit vector for each prefix of layers that brings identity; a visit is the average of its faces' vectors,
and a person that of the visits' (`bundle.match_rule.track_average`). Two are compared by the longest prefix that both
have, and judged by the thresholds that were measured against averages.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_stscq.bundle.match_rule import track_average
from edge_stscq.config.codec import EMBEDDING
from edge_stscq.config.match_thresholds import Limits, Verdict
from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.stream.face import CodedFace

Units = tuple[NDArray[np.float32], ...]
"""Unit vector `[128]` of each prefix, the shortest first; of a coarse face only the first ones."""


class Likely(NamedTuple):
    """A person who may be the one sought."""

    person: int
    score: float
    verdict: Verdict


class Likeness:
    """What one model says of faces, visits and persons. Not safe to call from two threads at once.

    Args:
        entry: of the model.
    """

    def __init__(self, entry: CatalogEntry) -> None:
        self._entry = entry
        identity = np.cumsum([layer.identity for layer in entry.matcher.config.layers])
        self.prefixes = sorted({int(np.searchsorted(identity, count)) + 1 for count in identity})
        shape = len(self.prefixes), 64
        self._rows, self._densities = np.zeros((*shape, EMBEDDING), np.float32), np.zeros(shape, np.float32)
        self._have = np.zeros(shape, bool)
        self._slots: dict[int, int] = {}
        self._persons: list[int] = []

    @property
    def judges(self) -> bool:
        """False of a model whose false matches were never measured: nobody is taken for another then."""
        return self._entry.rule is not None

    def units(self, faces: Sequence[CodedFace]) -> list[Units]:
        """Vectors of faces, by all the layers that each has."""
        found: list[list[NDArray[np.float32]]] = [[] for _ in faces]
        for prefix in self.prefixes:
            having = [at for at, face in enumerate(faces) if face.layers >= prefix]
            if having:
                embedded = self._entry.matcher.embed([faces[at] for at in having], prefix)
                for at, unit in zip(having, embedded, strict=True):
                    found[at].append(unit)
        return [tuple(one) for one in found]

    def average(self, many: Iterable[Units]) -> Units:
        """Average by prefix, of those that have it."""
        listed = list(many)
        longest = max((len(one) for one in listed), default=0)
        return tuple(track_average(np.stack([one[at] for one in listed if len(one) > at])) for at in range(longest))

    def put(self, person: int, units: Units) -> None:
        """Know a person by these vectors from now on; by none, not any more."""
        if not units:
            self._remove(person)
            return
        slot = self._slots.get(person)
        if slot is None:
            slot = self._slots[person] = len(self._persons)
            self._persons.append(person)
            if slot == self._have.shape[1]:
                grown = [np.concatenate([old, np.zeros_like(old)], 1) for old in (self._rows, self._densities)]
                self._rows, self._densities = grown
                self._have = np.concatenate([self._have, np.zeros_like(self._have)], 1)
        self._have[:, slot] = False
        for at, unit in enumerate(units):
            self._rows[at, slot], self._have[at, slot] = unit, True
            self._densities[at, slot] = self._density(unit, at)

    def _remove(self, person: int) -> None:
        slot = self._slots.pop(person, None)
        if slot is None:
            return
        moved, last = self._persons.pop(), len(self._persons)
        if moved != person:
            self._persons[slot], self._slots[moved] = moved, slot
            for column in (self._rows, self._densities, self._have):
                column[:, slot] = column[:, last]
        self._have[:, last], self._rows[:, last] = False, 0

    def likely(self, units: Units, besides: Iterable[int] = (), among: Iterable[int] | None = None) -> list[Likely]:
        """Persons who are or may be the one of these vectors, the surest first.

        Args:
            besides: persons who are not meant.
            among: only these persons; None is all.
        """
        count = len(self._persons)
        if not self.judges or not units or not count:
            return []
        scores = np.full(count, -np.inf, np.float32)
        level = np.zeros(count, int)
        for at, unit in enumerate(units):
            having = np.flatnonzero(self._have[at, :count])
            off = (self._densities[at, having] + self._density(unit, at)) * np.float32(0.5)
            scores[having], level[having] = self._rows[at, having] @ unit - off, at
        limits = [self._limits(at) for at in range(len(units))]
        floor = np.array([one.perhaps.score for one in limits])[level]
        sure = np.array([one.same_person.score for one in limits])[level]
        passed = np.flatnonzero(scores > floor)
        left, only = set(besides), None if among is None else set(among)
        ranked = sorted(passed, key=lambda slot: -(scores[slot] - sure[slot]))
        return [
            Likely(self._persons[slot], float(scores[slot]), limits[level[slot]].verdict(float(scores[slot])))
            for slot in ranked
            if self._persons[slot] not in left and (only is None or self._persons[slot] in only)
        ]

    def verdict(self, first: Units, second: Units) -> tuple[float, Verdict]:
        """Score and verdict of two faces, visits or persons."""
        at = min(len(first), len(second)) - 1
        rule = self._entry.rule
        if at < 0 or rule is None:
            return -np.inf, "nobody here"
        score = float(rule.scores(first[at][None], second[at][None], self.prefixes[at])[0, 0])
        return score, self._limits(at).verdict(score)

    def _density(self, unit: NDArray[np.float32], at: int) -> np.float32:
        rule = self._entry.rule
        found: np.float32 = np.float32(0) if rule is None else rule.density(unit[None], self.prefixes[at])[0]
        return found

    def _limits(self, at: int) -> Limits:
        """Thresholds against an average; those of two faces where no averages were measured."""
        assert self._entry.rule is not None
        row = self._entry.rule.thresholds.layers[self.prefixes[at] - 1]
        return row.track or row.pair
