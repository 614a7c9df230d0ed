"""Grouping: every stored face becomes part of a visit, and every visit one of a person, as faces come.

A face joins the visit of its track: the camera followed it. Faces without a track are of one visit if the same device
saw them within `gap` seconds and they are alike. A new visit is of the person whom it is most like, beyond the score
that 1 in 10,000 pairs of strangers passes, and of a new person otherwise. While it is the only visit of its person, and
nobody has said anything about that person, it is looked at again with every better shot and late layer.

The work is done after the commit of the faces, from a mark that moves in the same transaction as what it brought about;
the transaction is given up if another server was faster. So each face is taken in exactly once, whoever dies or races.
Vectors are in memory alone: the database holds no template beside the faces themselves.
"""

import logging
import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import Connection, delete, insert, select, update

from edge_stscq.errors import FrameError
from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.server.persons.likeness import Likely, Likeness, Units
from edge_stscq.server.persons.rows import changed_visits, read_visits, visit_query
from edge_stscq.server.storage.face_store import ErasedFace, FaceName, StoredFace
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from edge_stscq.server.storage.tables import enrollments, gone, grouping, persons, visit_faces, visits
from edge_stscq.server.storage.visit_rows import chunks, head, leave, remove_empty
from edge_stscq.stream.envelope import ID_BYTES, Source, WireFrame
from edge_stscq.stream.face import CodedFace

log = logging.getLogger(__name__)

Watch = Literal["known", "perhaps", "unknown"]
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
        self._changed = 0
        self._forget()

    def _forget(self) -> None:
        """Begin with nothing in memory."""
        for person in getattr(self, "_members", {}):
            for likeness in self._likeness.values():
                likeness.put(person, ())
        self._seen = -1
        self._pending: set[int] = set()
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
            if found is None or not self._enrolled:
                return None
            return self._watch(found)

    def _watch(self, visit: _Visit) -> Watch | None:
        likeness = self._likeness.get(visit.model)
        if likeness is None or not likeness.judges:
            return None
        if visit.person in self._enrolled:
            return "known"
        return "perhaps" if likeness.likely(self._average(visit), among=self._enrolled) else "unknown"

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
        if plan.touched and not stale:
            self._seen = changed + 1
        if stale:
            self._abandon(plan)
            return len(changes)
        if plan.erased:
            with self._store.database.write() as db:
                leave(db, plan.erased)
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
        quality = -1 if face.quality is None else face.quality
        if visit is None:
            plan.made += 1
            visit = _Visit(
                plan.made, face.device, face.stream, face.track, face.model, face.occurred, face.occurred, 0
            )  # fmt: skip
            visit.faces[name] = quality, units
            person = self._person_for(visit)
            if self._watch_list and person is None and self._watch(visit) == "unknown":
                plan.made -= 1
                plan.passed.append(name)
                return
            if person is None:
                plan.made += 1
                person = plan.made
                plan.persons.append(person)
            visit.person = person
            self._know(visit)
        else:
            visit.faces[name] = quality, units
            visit.ended = max(visit.ended, face.occurred)
            alone = self._members[visit.person] == {visit.id}
            if alone and visit.person not in self._edited and visit.person not in self._enrolled:
                person = self._person_for(visit)
                if person is not None:
                    plan.left.append(visit.person)
                    self._move(visit, person)
        if known is None:
            plan.faces[name] = visit.id
        self._visit_of[name] = visit.id
        plan.touched[visit.id] = visit
        self._learn(visit.person)

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
        self._pending |= set(plan.touched)

    def _refresh(self) -> int:
        """Take in what others changed; the mark."""
        with self._store.database.read() as db:
            mark, changed = (int(one) for one in db.execute(select(grouping.c.revision, grouping.c.changed)).one())
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
            enrolled = [tuple(row) for row in db.execute(select(enrollments))]
        learn = {one for kind, one in removed if kind == "person"}
        before = set(self._enrolled)
        self._enrolled = self._templates(enrolled)
        learn |= before | set(self._enrolled)
        for kind, one in removed:
            if kind == "visit" and one in self._visits:
                learn.add(self._visits[one].person)
                self._drop(self._visits[one])
        self._pending.clear()
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
        self._seen = changed
        return mark

    def _templates(self, rows: Sequence[tuple[Any, ...]]) -> dict[int, dict[bytes, list[Units]]]:
        found: dict[int, dict[bytes, list[Units]]] = {}
        for _, person, model, layers, payload, *_ in rows:
            entry = self._entries.get(model)
            of = found.setdefault(person, {})
            if entry is not None:
                frame = WireFrame(Source(bytes(ID_BYTES), "enrolled", model), 0, layers, payload)
                of.setdefault(model, []).extend(self._likeness[model].units([entry.codec.face(frame)]))
        return found


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
