"""Grouping: every stored face becomes part of a visit, and every visit one of a person, as faces come.

A face joins the visit of its track: the camera followed it. Faces without a track are of one visit if the same device
saw them within `gap` seconds and they are alike. A new visit is of the person whom it is most like, beyond the score
that 1 in 10,000 pairs of strangers passes, and of a new person otherwise. While it is the only visit of its person, and
nobody has said anything about that person, it is looked at again with every better shot and late layer, and whenever a
person of several visits is known better: the average of several is like a visit that each of them was too unlike.

The work is done after the commit of the faces, from a mark that moves in the same transaction as what it brought about;
the transaction is given up if another server was faster. So each face is taken in exactly once, whoever dies or races.
Vectors are in memory alone: the database holds no template beside the faces themselves.
"""

import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlalchemy import Connection, delete, insert, select, update

from edge_stscq.errors import FrameError
from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.server.persons.events import FRESH_SECONDS, MOST_HAPPENED, Happening, Kind, Watch
from edge_stscq.server.persons.likeness import Likely, Likeness, Units
from edge_stscq.server.persons.rows import Photo, changed_visits, read_photos, read_visits, visit_query
from edge_stscq.server.storage.face_store import ErasedFace, FaceName, StoredFace, face_name
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from edge_stscq.server.storage.tables import gone, grouping, persons, visit_faces, visits
from edge_stscq.server.storage.visit_rows import chunks, head, leave, remove_empty
from edge_stscq.stream.envelope import ID_BYTES, Source, WireFrame
from edge_stscq.stream.face import CodedFace

log = logging.getLogger(__name__)

PAGE = 200
"""Faces that are taken in at once."""
_ALL = 2**53
BEST = 8
"""Faces of a visit that its average is of, the best ones: as many as the thresholds were measured with."""


@dataclass
class _Visit:
    id: int
    device: str
    stream: bytes
    track: int | None
    model: bytes
    began: float
    ended: float
    person: int
    faces: dict[FaceName, tuple[int, Units]] = field(default_factory=dict)
    """Quality and vectors by name."""


class Grouper:
    """Groups the faces of a store; one an application, and any number of them at one store.

    Args:
        gap: seconds after which the same device, or the same number of a track, means another visit.
    """

    def __init__(
        self, store: SqlFaceStore, models: Iterable[CatalogEntry], gap: float, watch_list: bool = False
    ) -> None:
        self._store, self._gap, self._watch_list = store, gap, watch_list
        self._entries = {entry.model_id: entry for entry in models}
        self._likeness = {model: Likeness(entry) for model, entry in self._entries.items()}
        self._lock = threading.Lock()
        self._happened: deque[Happening] = deque(maxlen=MOST_HAPPENED)
        self._forget()

    def _forget(self) -> None:
        """Begin with nothing in memory."""
        for person in getattr(self, "_members", {}):
            for likeness in self._likeness.values():
                likeness.put(person, ())
        self._seen = self._made = -1
        self._pending: dict[int, Watch | None] = {}
        """Visits to be read again, and the last verdict on each."""
        self._visits: dict[int, _Visit] = {}
        self._visit_of: dict[FaceName, int] = {}
        self._by_track: dict[tuple[bytes, int], int] = {}
        self._recent: dict[str, list[int]] = defaultdict(list)
        self._members: dict[int, set[int]] = defaultdict(set)
        self._enrolled: dict[int, dict[bytes, list[Units]]] = {}
        self._edited: set[int] = set()

    def step(self) -> int:
        """Take in the next faces; how many changes of the store these were, 0 if there are none.

        Raises:
            StoreError: the store cannot be used; nothing was done.
        """
        with self._lock:
            return self._step()

    def likely(self, person: int, limit: int = 10) -> list[Likely]:
        """Others who may be the same person, the surest first."""
        with self._lock:
            self._refresh()
            found: dict[int, Likely] = {}
            for model, likeness in self._likeness.items():
                for one in likeness.likely(self._person_units(person, model), besides=[person]):
                    found.setdefault(one.person, one)
            return sorted(found.values(), key=lambda one: -one.score)[:limit]

    def payload(self, model: bytes, face: CodedFace) -> bytes:
        """A coded face as the store keeps it."""
        return self._entries[model].codec.payload(face)

    def watch(self, visit: int) -> Watch | None:
        """`known`, `perhaps` or `unknown` among the enrolled; None if nobody is, or the model was never measured."""
        with self._lock:
            found = self._visits.get(visit)
            return None if found is None or not self._enrolled else self._watch(found).verdict

    def happened(self) -> list[Happening]:
        """Events since this was asked last, at most `MOST_HAPPENED`, the newest."""
        with self._lock:
            found = list(self._happened)
            self._happened.clear()
            return found

    def _watch(self, visit: _Visit) -> "_Watched":
        likeness = self._likeness.get(visit.model)
        if likeness is None or not likeness.judges or not (self._enrolled or self._watch_list):
            return _Watched(None, None)
        if visit.person in self._enrolled:
            return _Watched("known", visit.person)
        found = likeness.likely(self._average(visit), among=self._enrolled)
        return _Watched("perhaps", found[0].person) if found else _Watched("unknown", None)

    def _tell(self, visit: _Visit, began: bool, before: Watch | None, own: bool) -> None:
        """Note that a visit began, and a verdict on it that is new."""
        watched = self._watch(visit)
        kinds: list[Kind] = ["visit"] if began else []
        if watched.verdict is not None and (began or watched.verdict != before):
            kinds.append(watched.verdict)
        best = max(visit.faces, key=lambda name: (len(visit.faces[name][1]), visit.faces[name][0]))
        for kind in kinds:
            self._happened.append(Happening(
                kind, visit.id, visit.person, watched.enrolled, visit.device, visit.track, visit.began,
                face_name(visit.device, *best), own,
            ))  # fmt: skip

    def _step(self) -> int:
        mark = self._refresh()
        changes = self._store.changes(mark, PAGE)
        if not changes:
            return 0
        plan = _Plan()
        coded = self._coded([one for one in changes if isinstance(one, StoredFace)])
        with self._store.database.read() as db:
            made = int(db.execute(select(grouping.c.made)).scalar_one())
        plan.made = made
        try:
            for change in changes:
                name = FaceName(change.stream, change.sequence)
                if isinstance(change, ErasedFace):
                    plan.erased.append(name)
                elif change.id in coded:
                    self._take(change, name, coded[change.id], plan)
            with self._store.database.write() as db:
                found_mark, changed, found_made, passed = head(db)
                stale = (found_mark, changed, found_made) != (mark, self._seen, made)
                if not stale:
                    self._write(db, plan, changed + 1)
                    counts = {"made": plan.made, "passed": passed + len(plan.passed)}
                    values = {"revision": changes[-1].revision, "changed": changed + bool(plan.touched), **counts}
                    db.execute(update(grouping).values(**values))
        except BaseException:
            self._forget()
            raise
        if stale:
            self._abandon(plan)
            return len(changes)
        self._seen, self._made = changed + bool(plan.touched), plan.made
        for visit in plan.fresh:
            self._tell(self._visits[visit], visit > made, plan.before.get(visit), own=True)
        self._happened.extend(plan.unknown)
        if plan.erased:
            with self._store.database.write() as db:
                leave(db, plan.erased)
            self._store.forget_keys()
        if plan.passed:
            self._store.erase(plan.passed, lasting=False)
            self._store.scrub()
        return len(changes)

    def _coded(self, found: Sequence[StoredFace]) -> dict[str, Units]:
        """Vectors of whole faces of the models that there are, by id."""
        of_model: dict[bytes, dict[str, WireFrame]] = defaultdict(dict)
        for face in found:
            if face.model in self._entries and not face.protected:
                try:
                    of_model[face.model][face.id] = face.frame()
                except FrameError as error:
                    log.error("%s is in no visit: %s", face.id, error)
        units: dict[str, Units] = {}
        for model, frames in of_model.items():
            faces = self._entries[model].codec.faces(list(frames.values()))
            whole = {name: face for name, face in zip(frames, faces, strict=True) if not isinstance(face, FrameError)}
            units |= dict(zip(whole, self._likeness[model].units(list(whole.values())), strict=True))
        return units

    def _take(self, face: StoredFace, name: FaceName, units: Units, plan: "_Plan") -> None:
        known = self._visit_of.get(name)
        visit = self._visits[known] if known is not None else self._visit_for(face, units)
        fresh = face.received > time.time() - FRESH_SECONDS
        quality = -1 if face.quality is None else face.quality
        if visit is None:
            plan.made += 1
            visit = _Visit(
                plan.made, face.device, face.stream, face.track, face.model, face.occurred, face.occurred, 0
            )  # fmt: skip
            visit.faces[name] = quality, units
            person = self._person_for(visit)
            if self._watch_list and person is None and self._watch(visit).verdict == "unknown":
                plan.made -= 1
                plan.passed.append(name)
                if fresh:
                    at = visit.device, visit.track, visit.began
                    plan.unknown.append(Happening("unknown", None, None, None, *at, None, True))
                return
            if person is None:
                plan.made += 1
                person = plan.made
                plan.persons.append(person)
            visit.person = person
            self._know(visit)
        else:
            plan.before.setdefault(visit.id, self._watch(visit).verdict)
            visit.faces[name] = quality, units
            visit.ended = max(visit.ended, face.occurred)
            if self._is_lone(visit.person):
                person = self._person_for(visit)
                if person is not None:
                    plan.left.append(visit.person)
                    self._move(visit, person)
        if known is None:
            plan.faces[name] = visit.id
        self._visit_of[name] = visit.id
        plan.touched[visit.id] = visit
        if fresh:
            plan.fresh.add(visit.id)
        self._learn(visit.person)
        while len(self._members[visit.person]) > 1 and (lone := self._lone_like(visit.person)) is not None:
            plan.left.append(lone.person)
            self._move(lone, visit.person)
            plan.touched[lone.id] = lone
            self._learn(visit.person)

    def _is_lone(self, person: int) -> bool:
        """Nobody knows more of this person than one visit."""
        return len(self._members[person]) == 1 and person not in self._edited and person not in self._enrolled

    def _lone_like(self, person: int) -> _Visit | None:
        """The only visit of somebody else who is this person by what is known by now."""
        for model, likeness in self._likeness.items():
            for one in likeness.likely(self._person_units(person, model), besides=[person]):
                if one.verdict == "same person" and self._is_lone(one.person):
                    return self._visits[next(iter(self._members[one.person]))]
        return None

    def _visit_for(self, face: StoredFace, units: Units) -> _Visit | None:
        """Visit that is there already."""
        if face.track is not None:
            found = self._visits.get(self._by_track.get((face.stream, face.track), 0))
            return found if found is not None and self._is_near(found, face) else None
        likeness = self._likeness[face.model]
        best: tuple[float, _Visit | None] = float("-inf"), None
        near = [self._visits[one] for one in self._recent[face.device][-64:] if one in self._visits]
        for visit in near:
            if visit.model == face.model and self._is_near(visit, face):
                score, verdict = likeness.verdict(self._average(visit), units)
                if verdict == "same person" and score > best[0]:
                    best = score, visit
        return best[1]

    def _is_near(self, visit: _Visit, face: StoredFace) -> bool:
        return visit.began - self._gap <= face.occurred <= visit.ended + self._gap

    def _person_for(self, visit: _Visit) -> int | None:
        besides = [visit.person] if visit.person else []
        found = self._likeness[visit.model].likely(self._average(visit), besides)
        return found[0].person if found and found[0].verdict == "same person" else None

    def _average(self, visit: _Visit) -> Units:
        best = sorted(visit.faces.values(), key=lambda one: (len(one[1]), one[0]), reverse=True)[:BEST]
        return self._likeness[visit.model].average(units for _, units in best)

    def _know(self, visit: _Visit) -> None:
        self._visits[visit.id] = visit
        self._members[visit.person].add(visit.id)
        for name in visit.faces:
            self._visit_of[name] = visit.id
        if visit.track is None:
            self._recent[visit.device].append(visit.id)
        else:
            at = visit.stream, visit.track
            if visit.id >= self._by_track.get(at, 0):
                self._by_track[at] = visit.id

    def _drop(self, visit: _Visit) -> None:
        del self._visits[visit.id]
        self._members[visit.person].discard(visit.id)
        for name in visit.faces:
            self._visit_of.pop(name, None)
        if visit.track is None and visit.id in self._recent[visit.device]:
            self._recent[visit.device].remove(visit.id)
        elif visit.track is not None and self._by_track.get((visit.stream, visit.track)) == visit.id:
            del self._by_track[visit.stream, visit.track]

    def _move(self, visit: _Visit, person: int) -> None:
        left = visit.person
        self._members[left].discard(visit.id)
        visit.person = person
        self._members[person].add(visit.id)
        self._learn(left)

    def _person_units(self, person: int, model: bytes) -> Units:
        averages = [
            self._average(self._visits[one]) for one in self._members[person] if self._visits[one].model == model
        ]
        averages += self._enrolled.get(person, {}).get(model, [])
        return self._likeness[model].average(averages)

    def _learn(self, person: int) -> None:
        """Know a person by the visits of now."""
        for model, likeness in self._likeness.items():
            units = self._person_units(person, model)
            if self._watch_list and person not in self._enrolled:
                units = ()
            likeness.put(person, units)

    def _write(self, db: Connection, plan: "_Plan", changed: int) -> None:
        if plan.persons:
            db.execute(
                insert(persons),
                [{"id": one, "name": None, "hidden": 0, "edited": 0, "changed": changed} for one in plan.persons],
            )
        if plan.touched:
            db.execute(delete(visits).where(visits.c.id.in_(list(plan.touched))))
            db.execute(
                insert(visits),
                [
                    {
                        "id": one.id,
                        "device": one.device,
                        "stream": one.stream,
                        "track": one.track,
                        "model": one.model,
                        "began": one.began,
                        "ended": one.ended,
                        "person": one.person,
                        "changed": changed,
                    }
                    for one in plan.touched.values()
                ],  # fmt: skip
            )
        if plan.faces:
            db.execute(
                insert(visit_faces),
                [{"stream": name.stream, "sequence": name.number, "visit": at} for name, at in plan.faces.items()],
            )
        remove_empty(db, {*plan.left, *(one.person for one in plan.touched.values())}, changed)

    def _abandon(self, plan: "_Plan") -> None:
        """Another server was faster: what this one thought of is read as that one has written it."""
        for visit in plan.touched.values():
            if visit.id in self._visits:
                self._drop(visit)
            self._learn(visit.person)
        for person in plan.left:
            self._learn(person)
        self._pending |= {visit: plan.before.get(visit) for visit in plan.touched}

    def _refresh(self) -> int:
        """Take in what others changed; the mark."""
        with self._store.database.read() as db:
            _, mark, changed, made, _ = (int(one) for one in db.execute(select(grouping)).one())
            if changed == self._seen and not self._pending:
                return mark
            after = self._seen
            removed = [
                (str(kind), int(one))
                for kind, one in db.execute(select(gone.c.kind, gone.c.id).where(gone.c.changed > after))
            ]
            rows = {row.id: row for row in read_visits(db, changed_visits(after, _ALL))}
            for ids in chunks(sorted(self._pending)):
                rows |= {row.id: row for row in read_visits(db, visit_query(ids=ids))}
            edited = select(persons.c.id).where(persons.c.edited == 1)
            self._edited = set(db.execute(edited).scalars())
            photos = read_photos(db)
        if self._store.seal is not None:
            photos = self._store.seal.people.open_photos(photos)
        learn = {one for kind, one in removed if kind == "person"}
        before = set(self._enrolled)
        self._enrolled = self._templates(photos)
        learn |= before | set(self._enrolled)
        for kind, one in removed:
            if kind == "visit" and one in self._visits:
                learn.add(self._visits[one].person)
                self._drop(self._visits[one])
        news: dict[int, Watch | None] = {}
        listed = sorted(rows.values(), key=lambda row: row.id)
        for at in range(0, len(listed), PAGE):
            some = listed[at : at + PAGE]
            old = {row.id: dict(self._visits[row.id].faces) for row in some if row.id in self._visits}
            wanted = [
                (row.id, member) for row in some for member in row.members[: BEST if row.id not in old else None]
                if member.name not in old.get(row.id, {})
            ]  # fmt: skip
            by_id = {row.id: row for row in some}
            found = {}
            for visit_id, member in wanted:
                stored = self._store.find(by_id[visit_id].face_id(member))
                if stored is not None:
                    found[stored.id] = stored
                    if after >= 0 and stored.received > time.time() - FRESH_SECONDS:
                        known = self._visits.get(visit_id)
                        news[visit_id] = self._pending.get(visit_id) if known is None else self._watch(known).verdict
            units = self._coded(list(found.values()))
            for row in some:
                visit = _Visit(
                    row.id, row.device, row.stream, row.track, row.model, row.began, row.ended, row.person
                )  # fmt: skip
                if row.id in self._visits:
                    learn.add(self._visits[row.id].person)
                    self._drop(self._visits[row.id])
                for member in row.members:
                    quality = -1 if member.quality is None else member.quality
                    kept = old.get(row.id, {}).get(member.name)
                    fresh = units.get(row.face_id(member))
                    self._visit_of[member.name] = row.id
                    if kept is not None:
                        visit.faces[member.name] = kept
                    elif fresh is not None:
                        visit.faces[member.name] = quality, fresh
                if row.model in self._likeness:
                    self._know(visit)
                    learn.add(row.person)
        for person in learn:
            self._learn(person)
        for one, verdict in news.items():
            if one in self._visits and self._visits[one].faces:
                self._tell(self._visits[one], one > self._made, verdict, own=False)
        self._pending.clear()
        self._seen, self._made = changed, made
        return mark

    def _templates(self, photos: Sequence[Photo]) -> dict[int, dict[bytes, list[Units]]]:
        found: dict[int, dict[bytes, list[Units]]] = {}
        for photo in photos:
            entry = self._entries.get(photo.model)
            of = found.setdefault(photo.person, {})
            if entry is not None:
                frame = WireFrame(Source(bytes(ID_BYTES), "enrolled", photo.model), 0, photo.layers, photo.payload)
                of.setdefault(photo.model, []).extend(self._likeness[photo.model].units([entry.codec.face(frame)]))
        return found


class _Watched(NamedTuple):
    """Verdict on a visit, and the enrolled person meant."""

    verdict: Watch | None
    enrolled: int | None


@dataclass
class _Plan:
    """Effects of one step."""

    made: int = 0
    faces: dict[FaceName, int] = field(default_factory=dict)
    touched: dict[int, _Visit] = field(default_factory=dict)
    persons: list[int] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    erased: list[FaceName] = field(default_factory=list)
    passed: list[FaceName] = field(default_factory=list)
    unknown: list[Happening] = field(default_factory=list)
    fresh: set[int] = field(default_factory=set)
    """Visits of faces that have just been received."""
    before: dict[int, Watch | None] = field(default_factory=dict)
    """Verdicts on visits that were there already."""
