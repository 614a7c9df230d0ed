"""Accepted frames in SQLite or PostgreSQL: the face store of a server.

`accept_all` returns after a durable commit, so what the server acknowledges survives a power cut. Writers hold the row
that counts revisions from their first statement to their commit: one writes at a time, on whatever server, so faces
appear in the order of their revisions (and rows), and a reader who asks for what came after the last one it saw misses
nothing. SQLite has no other way; in PostgreSQL a sequence would let a later number commit first.

Waiting for the disk is most of a commit, so whoever has several requests hands them over together: one transaction, one
wait, and an answer to each as if it had come alone.
"""

import itertools
import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import BindParameter, Connection, Select, and_, bindparam, func, or_, select, tuple_, update

from edge_stscq.errors import EdgeError
from edge_stscq.protocol import DEVICE_NAME, RefusedFrame
from edge_stscq.server.storage import device_counts
from edge_stscq.server.storage.acceptance import NEW, Acceptance
from edge_stscq.server.storage.database import Database, StoreError, store_url
from edge_stscq.server.storage.driver_sql import Statement, insert_rows, run_all
from edge_stscq.server.storage.erasure import (
    ANY,
    TIMES,
    chunks,
    erase_rows,
    erased_among,
    erased_since,
    erased_without_face,
    keep_away,
    older_than,
    times_by_device,
)
from edge_stscq.server.storage.face_store import (
    KEYLESS,
    STREAM_NAME,
    UNSEALED,
    Change,
    DamagedFaceError,
    DeviceStats,
    FaceName,
    FrameBatch,
    OnStored,
    Position,
    StoredFace,
    WriteResult,
)
from edge_stscq.server.storage.tables import (
    EVERY_DEVICE,
    LAYOUT,
    changes,
    edits,
    enrollments,
    erased,
    faces,
    payload_bytes,
    persons,
)
from edge_stscq.server.storage.visit_rows import head
from edge_stscq.stream.envelope import device_stream_id
from edge_stscq.stream.frame import FRAME_OVERHEAD

if TYPE_CHECKING:
    from edge_stscq.server.sealing.face_seal import FaceSeal

COLUMNS = (
    "row", "device", "stream", "sequence", "model", "coder", "kind", "clock", "captured", "track", "quality",
    "extensions", "layers", "payload", "checksum", "received", "occurred", "revision",
)  # fmt: skip
"""In the order of `StoredFace`."""
STORED = (*COLUMNS, "sealed")
"""Columns of a row: the last one says whether its payload, extensions and checksum are sealed."""
_TYPES = (int, str, bytes, int, bytes, bytes, int, int, int, int, int, bytes, int, bytes, int, float, float, int)
_NULLABLE = {"captured", "track", "quality"}
_ALLOWED = tuple((kind, type(None)) if name in _NULLABLE else kind for name, kind in zip(COLUMNS, _TYPES, strict=True))
_NOTHING = tuple(None if name in _NULLABLE else kind() for name, kind in zip(COLUMNS, _TYPES, strict=True))
_FACE = select(*(faces.c[name] for name in STORED))
_NAME = re.compile(rf"({DEVICE_NAME})-(0|[1-9][0-9]{{0,15}})")
_LAST = Statement(select(changes.c.revision, changes.c.seal).with_for_update())
_UNSEALED = _FACE.where(faces.c.sealed == 0).order_by(faces.c.row)
_ADVANCE = changes.update().values(revision=bindparam("last"))
_AMONG = _FACE.where(
    faces.c.stream == bindparam("stream"), faces.c.sequence.in_(bindparam("numbers", expanding=True))
)
_EXTENDED = tuple(name for name in STORED if name not in ("row", "stream", "sequence"))
_EXTEND = (
    update(faces)
    .where(faces.c.row == bindparam("at"), faces.c.stream == bindparam("of"), faces.c.sequence == bindparam("number"))
    .values({name: bindparam(f"new_{name}") for name in _EXTENDED})
)


class SqlFaceStore:
    """Open or create the store at `place` (a path or a URL, see `store_url`); `FaceStore` describes the methods.

    Args:
        seal: by which a sealed store is read and written; it is closed with the store.
        converting: True to open a store that is not sealed yet, or not all of it. From then on nobody writes into it in
            the clear, whoever has it open.

    Raises:
        EdgeError: it cannot be opened, is not such a store, is of a newer version, or cannot be written; it is sealed
            and no seal is given, or another one, or the other way round.
    """

    def __init__(self, place: Path | str, seal: "FaceSeal | None" = None, *, converting: bool = False) -> None:
        self.on_stored: OnStored = lambda last, stored: None
        self._seal = seal
        self._database = Database(store_url(place), LAYOUT)
        self.name = self._database.name
        try:
            self._check_seal(converting)
            self.forget_keys()
        except StoreError as error:
            self.close()
            raise EdgeError(f"{self.name} is not usable: {error}; choose another --store") from None
        except BaseException:
            self.close()
            raise

    def _check_seal(self, converting: bool) -> None:
        with self._database.read() as db:
            seal, sealed = db.execute(select(changes.c.seal, changes.c.sealed)).one()
        if self._seal is None:
            if seal is not None:
                raise EdgeError(f"{self.name} is sealed and cannot be read without its key; give --seal file:SECRET")
        elif seal is None and not converting:
            raise EdgeError(
                f"{self.name} is not sealed; run: edge-stscq store seal --store {self.name}, or omit --seal"
            )
        elif seal not in (None, self._seal.id):
            raise EdgeError(f"{self.name} is sealed by keys of another file; give its own with --seal-keys")
        elif not sealed and not converting:
            raise EdgeError(f"a part of {self.name} is not sealed yet; finish it: edge-stscq store seal")

        if self._seal is not None and seal is None:
            with self._database.write() as db:
                run_all(db, [_LAST])
                head(db)
                self._seal.people.seal_all(db)
                db.execute(changes.update(), {"seal": self._seal.id})

    def forget_keys(self) -> None:
        """Delete the keys of what was erased, also by a process that died before it came to that."""
        if self._seal is None:
            return
        with self.writing() as (db, last, _):
            after = self._seal.keys.revision
            names = erased_without_face(db, after if after <= last else 0)
            if names or after != last:
                self._seal.keys.forget(names, last)
            head(db)
            self._seal.people.forget_gone(db)

    @property
    def database(self) -> Database:
        """The database, for the rows that stand beside the faces."""
        return self._database

    @property
    def seal(self) -> "FaceSeal | None":
        """The seal of a sealed store."""
        return self._seal

    def accept_all(self, batches: Sequence[FrameBatch]) -> list[list[WriteResult | RefusedFrame] | Exception]:
        """Store all in one transaction, durable when this returns."""
        numbers = _numbers(batches)
        spans, sparse = _questions(numbers)
        with self.writing(ANY, TIMES, *spans) as (db, last, (any_erased, times, *known)):
            found = {_name_of(face): face for face in self._known(db, known, sparse)}
            acceptance = Acceptance(found, erased_among(db, numbers) if any_erased else set(), times_by_device(times))
            answers = [acceptance.take(batch) for batch in batches]
            taken = acceptance.rows(last)
            sealed = int(self._seal is not None)
            written = [(face.row, (*face[1:], sealed)) for face in self._sealed(taken)]
            inserted = [values for row, values in written if row == NEW]
            extended = [_extension(row, values) for row, values in written if row != NEW]
            insert_rows(db, faces, STORED[1:], inserted)
            if extended and db.execute(_EXTEND, extended).rowcount != len(extended):
                raise StoreError("an index leads to rows of other faces; it is damaged")
            if taken:
                advance = Statement(_ADVANCE, {"last": last + len(taken)})
                run_all(db, [*device_counts.adding(acceptance.counts()), advance])
                device_counts.recount(db, acceptance.mended)
        if taken:
            self.on_stored(last, taken)
        return answers

    def find(self, face_id: str) -> StoredFace | None:
        return next(iter(self.find_all([face_id])), None)

    def find_all(self, face_ids: Sequence[str]) -> list[StoredFace]:
        asked = [_names(face_id) for face_id in face_ids]
        numbers: dict[bytes, set[int]] = {}
        for stream, number in itertools.chain.from_iterable(asked):
            numbers.setdefault(stream, set()).add(number)
        with self._database.read() as db:
            found = {_name_of(face): face for face in self._find(db, numbers)}
        first = (next((found[name] for name in names if name in found), None) for names in asked)
        return [face for face in first if face is not None]

    def page(
        self,
        after: int,
        limit: int,
        device: str | None = None,
        since: float | None = None,
        until: float | None = None,
    ) -> list[StoredFace]:
        query = _FACE.where(faces.c.row > after).order_by(faces.c.row)
        if since is not None:
            query = query.where(faces.c.received >= since)
        if until is not None:
            query = query.where(faces.c.received < until)
        return self._some(query, limit, device)

    def newest(
        self,
        limit: int,
        before: Position | None = None,
        device: str | None = None,
        since: float | None = None,
        until: float | None = None,
    ) -> list[StoredFace]:
        query = _FACE.order_by(faces.c.occurred.desc(), faces.c.row.desc())
        if before is not None:
            query = query.where(tuple_(faces.c.occurred, faces.c.row) < tuple_(before.occurred, before.row))
        if since is not None:
            query = query.where(faces.c.occurred >= since)
        if until is not None:
            query = query.where(faces.c.occurred < until)
        return self._some(query, limit, device)

    def changes(self, after: int, limit: int, device: str | None = None) -> list[Change]:
        # None is above the last: followers must not be led past what is to come by a damaged row.
        last = select(changes.c.revision).scalar_subquery()
        query = _FACE.where(faces.c.revision > after, faces.c.revision <= last).order_by(faces.c.revision)
        if device is not None:
            query = query.where(faces.c.device == device)
        with self._database.read() as db:
            found: list[Change] = [*self._read(db, query.limit(limit)), *erased_since(db, after, limit, device)]
        return sorted(found, key=lambda change: change.revision)[:limit]

    def erase(self, names: Sequence[FaceName], *, lasting: bool = True) -> int:
        numbers: dict[bytes, set[int]] = {}
        for stream, number in names:
            numbers.setdefault(stream, set()).add(number)
        with self.writing() as (db, last, _):
            damaged = any(map(_is_damaged, self._find(db, numbers)))
            count = erase_rows(db, names, last, lasting)
            if damaged:
                device_counts.recount(db)  # what a damaged row says of its size or device was never counted
            if count:
                db.execute(changes.update(), {"revision": last + count})
        if count:
            self.forget_keys()
        return count

    def keep_away(self, device: str | None, since: float, until: float) -> None:
        """Refuse what comes of a device, or of any, that occurred since the one time and before the other.

        What is there stays; to be called before it is erased, so that nothing comes between.

        Args:
            until: what occurs from now on is not refused.
        """
        with self.writing() as (db, *_):
            keep_away(db, device or EVERY_DEVICE, since, min(until, time.time()))

    def expired(self, before: float, limit: int, device: str | None, others: Collection[str] = ()) -> list[StoredFace]:
        query = older_than(_FACE, before).order_by(faces.c.row)
        return self._some(query if device is not None else query.where(faces.c.device.not_in(others)), limit, device)

    def scrub(self) -> None:
        """Leave nothing of removed faces in the room they had, nor in the log.

        Raises:
            StoreError: somebody reads the store all the time; what was removed is still in its log.
        """
        with self._database.read() as db:
            overwrites = bool(db.execute(select(changes.c.overwrites)).scalar_one())
        self._database.scrub(rewrite=not overwrites, table=faces.name)
        if not overwrites:
            with self._database.write() as db:
                db.execute(changes.update(), {"overwrites": 1})
            self._database.scrub(rewrite=False, table=faces.name)
        if self._seal is not None:
            self._seal.keys.scrub()

    def latest_revision(self) -> int:
        with self._database.read() as db:
            return int(db.execute(select(changes.c.revision)).scalar_one())

    def devices(self, since: float) -> list[DeviceStats]:
        """Statistics of every device; reads the faces since then, and no others."""
        size = func.sum(payload_bytes + FRAME_OVERHEAD)
        query = select(faces.c.device, func.count(), size).where(faces.c.received >= since).group_by(faces.c.device)
        with self._database.read() as db:
            recent = {str(name): (count, int(late)) for name, count, late in db.execute(query)}
            return [DeviceStats(*one, *recent.get(one[0], (0, 0))) for one in device_counts.totals(db)]

    def wrong_counts(self) -> list[str]:
        """Devices whose counts are not those of their faces; reads every face."""
        with self._database.read() as db:
            return device_counts.wrong_counts(db)

    def recount(self) -> list[str]:
        """Count the faces of every device anew; devices whose counts were wrong."""
        with self.writing() as (db, *_):
            wrong = device_counts.wrong_counts(db)
            if wrong:
                device_counts.recount(db)
        return wrong

    def count_erased(self) -> int:
        """Names that are kept of erased faces."""
        with self._database.read() as db:
            return int(db.execute(select(func.count()).select_from(erased)).scalar_one())

    def count(self) -> int:
        with self._database.read() as db:
            return int(db.execute(select(func.count()).select_from(faces)).scalar_one())

    def check_writable(self) -> None:
        """Write what is written already: a full disk shows in nothing less."""
        with self.writing() as (db, last, _):
            db.execute(changes.update(), {"revision": last})
        self._database.check_room()

    def close(self) -> None:
        self._database.close()
        if self._seal is not None:
            self._seal.keys.close()

    def seal_some(self, limit: int) -> int:
        """Seal at most `limit` faces that are in the clear, in one transaction; returns how many that were."""
        with self.writing() as (db, *_):
            rows = [typed_row(found[:-1]) for found in db.execute(_UNSEALED.limit(limit))]
            sealed = [(*face[1:], 1) for face in self._sealed(rows)]
            if rows:
                db.execute(_EXTEND, [_extension(face.row, values) for face, values in zip(rows, sealed, strict=True)])
        return len(rows)

    def end_sealing(self) -> None:
        """Leave nothing in the clear in free pages and logs, and note that all is sealed."""
        self._database.rewrite(*(table.name for table in (faces, persons, edits, enrollments)))
        with self.writing() as (db, *_):
            db.execute(changes.update(), {"overwrites": 1, "sealed": 1})
        self._database.scrub(rewrite=False, table=faces.name)

    def count_unsealed(self) -> int:
        """Faces that are in the clear."""
        with self._database.read() as db:
            return int(db.execute(select(func.count()).select_from(faces).where(faces.c.sealed == 0)).scalar_one())

    def _sealed(self, rows: Sequence[StoredFace]) -> Sequence[StoredFace]:
        return rows if self._seal is None else self._seal.seal_many(rows)

    def _read(self, db: Connection, query: Select[Any], **values: object) -> list[StoredFace]:
        return opened_rows(db.execute(query, values), self._seal)

    def _find(self, db: Connection, numbers: Mapping[bytes, set[int]]) -> Iterator[StoredFace]:
        """The stored faces that have these names, and some between."""
        spans, sparse = _questions(numbers)
        return self._known(db, run_all(db, spans), sparse)

    def _known(
        self, db: Connection, spans: Iterable[Iterable[Sequence[Any]]], sparse: Iterable[tuple[bytes, Sequence[int]]]
    ) -> Iterator[StoredFace]:
        """The faces of rows that were found, and those of numbers that are asked for one by one."""
        yield from opened_rows(itertools.chain.from_iterable(spans), self._seal)
        for stream, numbers in sparse:
            yield from self._read(db, _AMONG, stream=stream, numbers=numbers)

    @contextmanager
    def writing(self, *asked: Statement) -> Iterator[tuple[Connection, int, list[list[tuple[Any, ...]]]]]:
        """A transaction beside which no other writes faces, the last revision before it, and the rows asked for."""
        with self._database.write() as db:
            ((last, seal),), *found = run_all(db, [_LAST, *asked])
            self._require_seal(seal)
            yield db, last, found

    def refuse_other_seal(self, db: Connection) -> None:
        """Refuse to write into a store that was sealed since it was opened.

        Raises:
            StoreError: it was.
        """
        self._require_seal(db.execute(select(changes.c.seal)).scalar_one())

    def _require_seal(self, found: bytes | None) -> None:
        if found != (None if self._seal is None else self._seal.id):
            raise StoreError("the store was sealed meanwhile, or replaced; start this again with its --seal")

    def _some(self, query: Select[Any], limit: int, device: str | None) -> list[StoredFace]:
        if device is not None:
            query = query.where(faces.c.device == device)
        with self._database.read() as db:
            return self._read(db, query.limit(limit))


_Name = tuple[bytes, int]


def _names(face_id: str) -> list[_Name]:
    """Stream and number that an id may mean, the likelier first; none if it is no id."""
    match = _NAME.fullmatch(face_id)
    if match is None:
        return []
    streams = [device_stream_id(match[1])]
    if STREAM_NAME.fullmatch(match[1]):
        streams.insert(0, bytes.fromhex(match[1]))
    return [(stream, int(match[2])) for stream in streams]


def _is_damaged(face: StoredFace) -> bool:
    try:
        face.frame()
    except DamagedFaceError:
        return True
    return False


def _name_of(face: StoredFace) -> _Name:
    return face.stream, face.sequence


def _numbers(batches: Sequence[FrameBatch]) -> dict[bytes, set[int]]:
    """Numbers of all frames, by stream."""
    numbers: dict[bytes, set[int]] = {}
    for batch in batches:
        for frame in batch.frames:
            numbers.setdefault(frame.source.stream_id, set()).add(frame.number)
    return numbers


_SPARSE = 4
"""Numbers in a span, for each that is asked for, from which on they are asked for one by one."""
_MOST_SPANS = 16
"""In one query."""
_ENDS = ("stream", "low", "high")


def _questions(numbers: Mapping[bytes, set[int]]) -> tuple[list[Statement], list[tuple[bytes, Sequence[int]]]]:
    """Queries for the faces that have these names, and the numbers that are too sparse for them, by stream."""
    spans: list[tuple[bytes, int, int]] = []
    sparse: list[tuple[bytes, Sequence[int]]] = []
    for stream, wanted in numbers.items():
        low, high = min(wanted), max(wanted)
        if high - low < _SPARSE * len(wanted):
            spans.append((stream, low, high))
        else:
            sparse += ((stream, some) for some in chunks(sorted(wanted)))
    parts = (spans[at : at + _MOST_SPANS] for at in range(0, len(spans), _MOST_SPANS))
    return [Statement(_within(len(part)), _ends(part)) for part in parts], sparse


def _ends(spans: Sequence[tuple[bytes, int, int]]) -> dict[str, object]:
    return {
        f"{name}{place}": value
        for place, span in enumerate(spans) for name, value in zip(_ENDS, span, strict=True)
    }  # fmt: skip


@cache
def _within(spans: int) -> Select[Any]:
    """Faces in any of so many spans of numbers of streams."""
    ends: list[list[BindParameter[Any]]] = [[bindparam(f"{name}{place}") for name in _ENDS] for place in range(spans)]
    return _FACE.where(
        or_(*(and_(faces.c.stream == stream, faces.c.sequence.between(low, high)) for stream, low, high in ends))
    )


def _extension(row: int, values: tuple[Any, ...]) -> dict[str, Any]:
    """Values of `_EXTEND`: the row of this face alone."""
    named = dict(zip(STORED[1:], values, strict=True))
    changed = {f"new_{name}": named[name] for name in _EXTENDED}
    return {"at": row, "of": named["stream"], "number": named["sequence"]} | changed


def opened_rows(rows: Iterable[Sequence[Any]], seal: "FaceSeal | None") -> list[StoredFace]:
    """Faces of rows as `STORED` has them; one that cannot be opened has a checksum that says why."""
    if seal is None:
        return [typed_row(found[:-1]) if not found[-1] else _without_key(typed_row(found[:-1])) for found in rows]
    faces_of = [(typed_row(found[:-1]), found[-1]) for found in rows]
    opened = iter(seal.open_many([face for face, sealed in faces_of if sealed]))
    return [next(opened) if sealed else face._replace(checksum=UNSEALED) for face, sealed in faces_of]


def _without_key(face: StoredFace) -> StoredFace:
    return face._replace(payload=b"", extensions=b"", checksum=KEYLESS)


def typed_row(found: Sequence[Any]) -> StoredFace:
    """A row; what is of another type, as SQLite gives it out of a damaged file, counts as nothing."""
    if all(map(isinstance, found, _ALLOWED)):
        return StoredFace(*found)
    values: list[Any] = [
        value if isinstance(value, kind) else nothing
        for value, kind, nothing in zip(found, _TYPES, _NOTHING, strict=True)
    ]
    return StoredFace(*values)
