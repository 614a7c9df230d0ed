"""Memory of a grouping: the visits, whom each is like, and who is on the watch list.

A visit is known by its faces' vectors, a person by the visits' average. All of it can be read again from the store, and
none of it is ever written there.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from edge_stscq.errors import FrameError
from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.server.persons.events import Watch
from edge_stscq.server.persons.likeness import Likeness, Units
from edge_stscq.server.persons.rows import Photo
from edge_stscq.server.storage.face_store import FaceName, occurrence
from edge_stscq.stream.envelope import ID_BYTES, Kind, Source, WireFrame

BEST = 8
"""Faces of a visit that its average is of, the best ones: as many as the thresholds were measured with."""


@dataclass
class Visit:
    """One visit, with the vectors of its faces."""

    id: int
    device: str
    stream: bytes
    track: int | None
    model: bytes
    began: float
    ended: float
    person: int
    faces: dict[FaceName, tuple[int, Units]] = field(default_factory=dict)
    """Quality and vectors by name; to be changed by `add`."""
    average: Units | None = None
    """Of the best faces, where it is known."""

    def add(self, name: FaceName, quality: int, units: Units) -> None:
        """Take a face in, or another version of one."""
        self.faces[name], self.average = (quality, units), None

    @classmethod
    def of_frame(cls, frame: WireFrame, received: float, units: Units) -> "Visit":
        """A face that is not stored, as a visit of its own."""
        source, occurred = frame.source, occurrence(frame, received)
        faces = {FaceName(source.stream_id, frame.number): (-1, units)}
        return cls(0, source.device, source.stream_id, frame.track, source.model_id, occurred, occurred, 0, faces)


class Watched(NamedTuple):
    """Verdict on a visit, and the enrolled person meant."""

    verdict: Watch | None
    enrolled: int | None


class Memory:
    """Visits by everything that they are sought by. Not safe to use from two threads at once.

    Args:
        gap: seconds after which the same device, or the same number of a track, means another visit.
        watch_list: nobody but the enrolled is known.

    Attributes:
        members: visits of each person.
        enrolled: vectors of those on the watch list, by person and model.
        edited: persons whom somebody changed by hand.
    """

    def __init__(self, models: Iterable[CatalogEntry], gap: float, watch_list: bool) -> None:
        self._gap, self._watch_list = gap, watch_list
        self.entries = {entry.model_id: entry for entry in models}
        self.likeness = {model: Likeness(entry) for model, entry in self.entries.items()}
        self.visits: dict[int, Visit] = {}
        self.visit_of: dict[FaceName, int] = {}
        self._by_track: dict[tuple[bytes, int], int] = {}
        self._recent: dict[str, list[int]] = defaultdict(list)
        self.members: dict[int, set[int]] = defaultdict(set)
        self.enrolled: dict[int, dict[bytes, list[Units]]] = {}
        self.edited: set[int] = set()

    def watch(self, visit: Visit) -> Watched:
        """Verdict among the enrolled; none where nobody is and nobody watches, or the model was never measured."""
        likeness = self.likeness.get(visit.model)
        if likeness is None or not likeness.judges or not (self.enrolled or self._watch_list):
            return Watched(None, None)
        if visit.person in self.enrolled:
            return Watched("known", visit.person)
        found = likeness.likely(self.average(visit), among=self.enrolled)
        return Watched("perhaps", found[0].person) if found else Watched("unknown", None)

    def units(self, frames: Sequence[WireFrame]) -> list[Units | None]:
        """Vectors of each; None of one that cannot be read, is of another model, or a protected template."""
        of_model: dict[bytes, list[int]] = defaultdict(list)
        for at, frame in enumerate(frames):
            if frame.source.kind == Kind.TOKENS:
                of_model[frame.source.model_id].append(at)
        units: list[Units | None] = [None] * len(frames)
        for model in of_model.keys() & self.entries.keys():
            faces = self.entries[model].codec.faces([frames[at] for at in of_model[model]])
            read = zip(of_model[model], faces, strict=True)
            whole = {at: face for at, face in read if not isinstance(face, FrameError)}
            for at, each in zip(whole, self.likeness[model].units(list(whole.values())), strict=True):
                units[at] = each
        return units

    def is_lone(self, person: int) -> bool:
        """Nobody knows more of this person than one visit."""
        return len(self.members[person]) == 1 and person not in self.edited and person not in self.enrolled

    def lone_like(self, person: int) -> Visit | None:
        """The only visit of somebody else who is this person, by what is known of several visits by now."""
        for model, likeness in self.likeness.items() if len(self.members[person]) > 1 else ():
            for one in likeness.likely(self.person_units(person, model), besides=[person]):
                if one.verdict == "same person" and self.is_lone(one.person):
                    return self.visits[next(iter(self.members[one.person]))]
        return None

    def visit_like(self, alone: Visit) -> Visit | None:
        """Visit that is there already, and of which a face is, given as a visit of its own."""
        if alone.track is not None:
            found = self.visits.get(self._by_track.get((alone.stream, alone.track), 0))
            return found if found is not None and self._is_near(found, alone.began) else None
        likeness, units = self.likeness[alone.model], self.average(alone)
        best: tuple[float, Visit | None] = float("-inf"), None
        near = [self.visits[one] for one in self._recent[alone.device][-64:] if one in self.visits]
        for visit in near:
            if visit.model == alone.model and self._is_near(visit, alone.began):
                score, verdict = likeness.verdict(self.average(visit), units)
                if verdict == "same person" and score > best[0]:
                    best = score, visit
        return best[1]

    def _is_near(self, visit: Visit, occurred: float) -> bool:
        return visit.began - self._gap <= occurred <= visit.ended + self._gap

    def is_stranger(self, visit: Visit) -> bool:
        """True if a visit is like nobody enrolled."""
        return self.watch(visit).verdict == "unknown"

    def person_for(self, visit: Visit) -> int | None:
        """The person, other than its own, whom a visit is surely of."""
        besides = [visit.person] if visit.person else []
        found = self.likeness[visit.model].likely(self.average(visit), besides)
        return found[0].person if found and found[0].verdict == "same person" else None

    def average(self, visit: Visit) -> Units:
        """Average of a visit's best faces."""
        if visit.average is None:
            best = sorted(visit.faces.values(), key=lambda one: (len(one[1]), one[0]), reverse=True)[:BEST]
            visit.average = self.likeness[visit.model].average(units for _, units in best)
        return visit.average

    def know(self, visit: Visit) -> None:
        """Remember a visit; `learn` its person then."""
        self.visits[visit.id] = visit
        self.members[visit.person].add(visit.id)
        for name in visit.faces:
            self.visit_of[name] = visit.id
        if visit.track is None:
            self._recent[visit.device].append(visit.id)
        else:
            at = visit.stream, visit.track
            if visit.id >= self._by_track.get(at, 0):
                self._by_track[at] = visit.id

    def drop(self, visit: Visit) -> None:
        """Forget a visit; `learn` its person then."""
        del self.visits[visit.id]
        self.members[visit.person].discard(visit.id)
        for name in visit.faces:
            self.visit_of.pop(name, None)
        if visit.track is None and visit.id in self._recent[visit.device]:
            self._recent[visit.device].remove(visit.id)
        elif visit.track is not None and self._by_track.get((visit.stream, visit.track)) == visit.id:
            del self._by_track[visit.stream, visit.track]

    def move(self, visit: Visit, person: int) -> None:
        """Make a visit another person's; `learn` that one then."""
        left = visit.person
        self.members[left].discard(visit.id)
        visit.person = person
        self.members[person].add(visit.id)
        self.learn(left)

    def person_units(self, person: int, model: bytes) -> Units:
        """Average of a person's visits and photographs."""
        averages = [self.average(self.visits[one]) for one in self.members[person] if self.visits[one].model == model]
        averages += self.enrolled.get(person, {}).get(model, [])
        return self.likeness[model].average(averages)

    def learn(self, person: int) -> None:
        """Know a person by the visits of now."""
        for model, likeness in self.likeness.items():
            units = self.person_units(person, model)
            if self._watch_list and person not in self.enrolled:
                units = ()
            likeness.put(person, units)

    def templates(self, photos: Sequence[Photo]) -> dict[int, dict[bytes, list[Units]]]:
        """Vectors of photographs, by person and model."""
        found: dict[int, dict[bytes, list[Units]]] = {}
        for photo in photos:
            entry = self.entries.get(photo.model)
            of = found.setdefault(photo.person, {})
            if entry is not None:
                frame = WireFrame(Source(bytes(ID_BYTES), "enrolled", photo.model), 0, photo.layers, photo.payload)
                of.setdefault(photo.model, []).extend(self.likeness[photo.model].units([entry.codec.face(frame)]))
        return found
