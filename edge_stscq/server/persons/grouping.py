"""Grouping: every stored face becomes part of a visit, and every visit one of a person, as faces come.

A face joins the visit of its track: the camera followed it. Faces without a track are of one visit if the same device
saw them within `gap` seconds and they are alike. A new visit is of the person whom it is most like, beyond the score
that 1 in 10,000 pairs of strangers passes, and of a new person otherwise. While it is the only visit of its person, and
nobody has said anything about that person, it is looked at again with every better shot and late layer, and whenever a
person of several visits is known better: the average of several is like a visit that each of them was too unlike.

The work is done after the commit of the faces, from a mark that moves in the same transaction as what it brought about;
the transaction is given up if another server was faster. So each face is taken in exactly once, whoever dies or races.
Vectors are in memory alone: grouping writes no template beside the faces themselves.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, delete, insert, select, update

from edge_stscq.errors import FrameError
from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.server.persons.events import FRESH_SECONDS, MOST_HAPPENED, Happening, Kind, Watch
from edge_stscq.server.persons.likeness import Likely, Units
from edge_stscq.server.persons.memory import BEST, Memory, Visit
from edge_stscq.server.persons.rows import changed_visits, read_photos, read_visits, visit_query
from edge_stscq.server.storage.face_store import ErasedFace, FaceName, StoredFace, face_name
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from edge_stscq.server.storage.tables import gone, grouping, persons, visit_faces, visits
from edge_stscq.server.storage.visit_rows import chunks, head, leave, remove_empty
from edge_stscq.stream.envelope import WireFrame
from edge_stscq.stream.face import CodedFace

log = logging.getLogger(__name__)

PAGE = 200
"""Faces that are taken in at once."""
_ALL = 2**53


class Grouper:
    """Groups the faces of a store; one an application, and any number of them at one store.

    Args:
        gap: seconds after which the same device, or the same number of a track, means another visit.
    """

    def __init__(
        self, store: SqlFaceStore, models: Iterable[CatalogEntry], gap: float, watch_list: bool = False
    ) -> None:
        self._store, self._gap, self._watch_list = store, gap, watch_list
        self._models = list(models)
        self._lock = threading.Lock()
        self._happened: deque[Happening] = deque(maxlen=MOST_HAPPENED)
        self._forget()

    def _forget(self) -> None:
        """Begin with nothing in memory."""
        self._memory = Memory(self._models, self._gap, self._watch_list)
        self._seen = self._made = -1
        self._pending: dict[int, Watch | None] = {}
        """Visits to be read again, and the last verdict on each."""

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
            for model, likeness in self._memory.likeness.items():
                for one in likeness.likely(self._memory.person_units(person, model), besides=[person]):
                    found.setdefault(one.person, one)
            return sorted(found.values(), key=lambda one: -one.score)[:limit]

    def let_pass(self, frames: Sequence[WireFrame]) -> list[bool]:
        """True for each face that a watch list has no use for: it is counted, and an event.

        A face stays if it is like somebody enrolled, or of a visit that is there, or if another one of its track stays.

        Raises:
            StoreError: the store cannot be used.
        """
        with self._lock:
            self._refresh()
            found = [self._stranger(*one) for one in zip(frames, self._memory.units(frames), strict=True)]
            tracks = [None if frame.track is None else (frame.source.stream_id, frame.track) for frame in frames]
            stay = {track for track, one in zip(tracks, found, strict=True) if one is None} - {None}
            strangers = [None if track in stay else one for track, one in zip(tracks, found, strict=True)]
            happened = [_stranger_passed(one) for one in strangers if one is not None]
            if happened:
                with self._store.database.write() as db:
                    _, _, _, passed = head(db)
                    db.execute(update(grouping).values(passed=passed + len(happened)))
                self._happened.extend(happened)
        return [one is not None for one in strangers]

    def _stranger(self, frame: WireFrame, units: Units | None) -> Visit | None:
        """A face that is not stored, as a visit of its own, if it is like nobody enrolled and of no visit."""
        if units is None or FaceName(frame.source.stream_id, frame.number) in self._memory.visit_of:
            return None
        alone = Visit.of_frame(frame, time.time(), units)
        return alone if self._memory.visit_like(alone) is None and self._memory.is_stranger(alone) else None

    def payload(self, model: bytes, face: CodedFace) -> bytes:
        """A coded face as the store keeps it."""
        return self._memory.entries[model].codec.payload(face)

    def watch(self, visit: int) -> Watch | None:
        """`known`, `perhaps` or `unknown` among the enrolled; None if nobody is, or the model was never measured."""
        with self._lock:
            found = self._memory.visits.get(visit)
            return None if found is None or not self._memory.enrolled else self._memory.watch(found).verdict

    def happened(self) -> list[Happening]:
        """Events since this was asked last, at most `MOST_HAPPENED`, the newest."""
        with self._lock:
            found = list(self._happened)
            self._happened.clear()
            return found

    def _tell(self, visit: Visit, began: bool, before: Watch | None, own: bool) -> None:
        """Note that a visit began, and a verdict on it that is new."""
        watched = self._memory.watch(visit)
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
            self._tell(self._memory.visits[visit], visit > made, plan.before.get(visit), own=True)
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
        frames: dict[str, WireFrame] = {}
        for face in found:
            try:
                frames[face.id] = face.frame()
            except FrameError as error:
                log.error("%s is in no visit: %s", face.id, error)
        units = zip(frames, self._memory.units(list(frames.values())), strict=True)
        return {name: each for name, each in units if each is not None}

    def _take(self, face: StoredFace, name: FaceName, units: Units, plan: "_Plan") -> None:
        known = self._memory.visit_of.get(name)
        quality = -1 if face.quality is None else face.quality
        faces, at = {name: (quality, units)}, face.occurred
        alone = Visit(0, face.device, face.stream, face.track, face.model, at, at, 0, faces)
        visit = self._memory.visits[known] if known is not None else self._memory.visit_like(alone)
        fresh = face.received > time.time() - FRESH_SECONDS
        if visit is None:
            visit = alone
            if self._watch_list and self._memory.is_stranger(visit):
                plan.passed.append(name)
                if fresh:
                    plan.unknown.append(_stranger_passed(visit))
                return
            plan.made += 1
            visit.id, person = plan.made, self._memory.person_for(visit)
            if person is None:
                plan.made += 1
                person = plan.made
                plan.persons.append(person)
            visit.person = person
            self._memory.know(visit)
        else:
            plan.before.setdefault(visit.id, self._memory.watch(visit).verdict)
            visit.add(name, quality, units)
            visit.ended = max(visit.ended, face.occurred)
            if self._memory.is_lone(visit.person):
                person = self._memory.person_for(visit)
                if person is not None:
                    plan.left.append(visit.person)
                    self._memory.move(visit, person)
        if known is None:
            plan.faces[name] = visit.id
        self._memory.visit_of[name] = visit.id
        plan.touched[visit.id] = visit
        if fresh:
            plan.fresh.add(visit.id)
        self._memory.learn(visit.person)
        while (lone := self._memory.lone_like(visit.person)) is not None:
            plan.left.append(lone.person)
            self._memory.move(lone, visit.person)
            plan.touched[lone.id] = lone
            self._memory.learn(visit.person)

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
            if visit.id in self._memory.visits:
                self._memory.drop(visit)
            self._memory.learn(visit.person)
        for person in plan.left:
            self._memory.learn(person)
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
            self._memory.edited = set(db.execute(edited).scalars())
            photos = read_photos(db)
        if self._store.seal is not None:
            photos = self._store.seal.people.open_photos(photos)
        learn = {one for kind, one in removed if kind == "person"}
        before = set(self._memory.enrolled)
        self._memory.enrolled = self._memory.templates(photos)
        learn |= before | set(self._memory.enrolled)
        for kind, one in removed:
            if kind == "visit" and one in self._memory.visits:
                learn.add(self._memory.visits[one].person)
                self._memory.drop(self._memory.visits[one])
        news: dict[int, Watch | None] = {}
        listed = sorted(rows.values(), key=lambda row: row.id)
        for at in range(0, len(listed), PAGE):
            some = listed[at : at + PAGE]
            old = {row.id: dict(self._memory.visits[row.id].faces) for row in some if row.id in self._memory.visits}
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
                        known, last = self._memory.visits.get(visit_id), self._pending.get(visit_id)
                        news[visit_id] = last if known is None else self._memory.watch(known).verdict
            units = self._coded(list(found.values()))
            for row in some:
                visit = Visit(
                    row.id, row.device, row.stream, row.track, row.model, row.began, row.ended, row.person
                )  # fmt: skip
                if row.id in self._memory.visits:
                    learn.add(self._memory.visits[row.id].person)
                    self._memory.drop(self._memory.visits[row.id])
                for member in row.members:
                    quality = -1 if member.quality is None else member.quality
                    kept = old.get(row.id, {}).get(member.name)
                    fresh = units.get(row.face_id(member))
                    self._memory.visit_of[member.name] = row.id
                    if kept is not None:
                        visit.add(member.name, *kept)
                    elif fresh is not None:
                        visit.add(member.name, quality, fresh)
                if row.model in self._memory.likeness:
                    self._memory.know(visit)
                    learn.add(row.person)
        for person in learn:
            self._memory.learn(person)
        for one, verdict in news.items():
            if one in self._memory.visits and self._memory.visits[one].faces:
                self._tell(self._memory.visits[one], one > self._made, verdict, own=False)
        self._pending.clear()
        self._seen, self._made = changed, made
        return mark

def _stranger_passed(visit: Visit) -> Happening:
    return Happening("unknown", None, None, None, visit.device, visit.track, visit.began, None, own=True)


@dataclass
class _Plan:
    """Effects of one step."""

    made: int = 0
    faces: dict[FaceName, int] = field(default_factory=dict)
    touched: dict[int, Visit] = field(default_factory=dict)
    persons: list[int] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    erased: list[FaceName] = field(default_factory=list)
    passed: list[FaceName] = field(default_factory=list)
    unknown: list[Happening] = field(default_factory=list)
    fresh: set[int] = field(default_factory=set)
    """Visits of faces that have just been received."""
    before: dict[int, Watch | None] = field(default_factory=dict)
    """Verdicts on visits that were there already."""
