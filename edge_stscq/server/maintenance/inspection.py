"""Every face of a store read and checked, and what is whole of a damaged SQLite file written anew."""

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import insert

from edge_stscq._progress import Progress, no_progress
from edge_stscq._sqlite import FAILURES
from edge_stscq.errors import EdgeError
from edge_stscq.protocol import MAX_SEQUENCE
from edge_stscq.server.maintenance.files import check_store, discard, exclusively, moved_aside, read_only, replace_store
from edge_stscq.server.sealing.face_seal import FaceSeal
from edge_stscq.server.storage.database import Database, StoreError, sqlite_path, store_url
from edge_stscq.server.storage.device_counts import recount
from edge_stscq.server.storage.face_store import DamagedFaceError, KeylessFaceError, StoredFace, face_name
from edge_stscq.server.storage.sql_face_store import COLUMNS, STORED, SqlFaceStore, opened_rows
from edge_stscq.server.storage.tables import LAYOUT, changes, erased, erased_times, faces
from edge_stscq.server.storage.visit_rows import carry
from edge_stscq.stream.envelope import ID_BYTES

PAGE = 1000
Item = TypeVar("Item")
_MOST_LINES = 20
"""Of SQLite's own words about one file."""


@dataclass(frozen=True)
class DamagedRow:
    """A face that is not as it was sent."""

    id: str
    reason: str


@dataclass
class Inspection:
    """Result of reading all of a store.

    Attributes:
        store: its name.
        faces: that are whole.
        erased: names that are kept of erased faces.
        damaged: faces that are not whole.
        keyless: sealed faces whose key is gone, by id: they were erased, or the key file is older than the store.
        problems: of the database itself, a line each.
    """

    store: str
    faces: int = 0
    erased: int = 0
    damaged: list[DamagedRow] = field(default_factory=list)
    keyless: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        return not (self.damaged or self.keyless or self.problems)


def inspect_store(place: Path | str, progress: Progress = no_progress, seal: FaceSeal | None = None) -> Inspection:
    """Read every face of the store at `place` and hold it against its checksum; nothing is changed.

    Args:
        progress: told how many faces were read.
        seal: of a sealed store.

    Raises:
        EdgeError: there is no store, or it is another program's, of a newer version or too damaged to be opened, or
            sealed by other keys.
    """
    path = sqlite_path(store_url(place))
    if path is not None:
        _check_there(path)
        with contextlib.closing(read_only(path)) as db:
            check_store(db, path)
    with contextlib.closing(SqlFaceStore(place, seal)) as store:
        found = Inspection(store.name)
        if path is not None:
            found.problems += _integrity(path)
        try:
            last, after = store.latest_revision(), -(2**63)
            found.erased = store.count_erased()
            while rows := store.page(after, PAGE):
                for face in rows:
                    _judge(face, last, found)
                after = rows[-1].row
                progress(len(rows))
            if not found.damaged and (wrong := store.wrong_counts()):
                devices = ", ".join(wrong[:5])
                found.problems.append(f"what is counted of {devices} is not what there is; store repair counts anew")
        except StoreError as error:
            found.problems.append(f"reading ended: {error}")
    return found


def _judge(face: StoredFace, last: int, found: Inspection) -> None:
    try:
        face.frame()
        if not 0 < face.revision <= last:
            raise DamagedFaceError(f"revision {face.revision} was never given")
    except KeylessFaceError:
        found.keyless.append(face.id)
    except DamagedFaceError as error:
        found.damaged.append(DamagedRow(face.id, str(error)))
    else:
        found.faces += 1


def _check_there(path: Path) -> None:
    if not path.exists():
        raise EdgeError(f"there is no store {path}; give its path with --store")


def _integrity(path: Path) -> list[str]:
    """Complaints of SQLite about the structure of a file."""
    try:
        with contextlib.closing(read_only(path)) as db:
            db.text_factory = lambda found: found.decode(errors="replace")
            lines = [str(line) for (line,) in db.execute(f"PRAGMA integrity_check({_MOST_LINES})")]
    except FAILURES as error:
        return [str(error)]
    return [] if lines == ["ok"] else lines


@dataclass
class Repair:
    """Result of a repair.

    Attributes:
        kept: faces that are in the new file.
        lost: faces that are not.
        unnamed: how many more rows the file once had, that nothing leads to any more.
        moved: where the old file is.
    """

    store: str
    kept: int
    lost: list[DamagedRow]
    unnamed: int
    moved: str


def repair_store(path: Path, progress: Progress = no_progress, seal: FaceSeal | None = None) -> Repair:
    """Write what is whole of a SQLite store into a new file in its place; the old one is moved aside.

    Rows are found through the table, from both ends, and through each index, so that a damaged page takes no more than
    its own rows with it. Names of erased faces are kept.

    Raises:
        EdgeError: there is no such file, a server has it open, it is another program's, or nothing can be read.
    """
    _check_there(path)
    with exclusively(path) as old:
        reader = _RowReader(old, seal, path)
        fresh = path.with_name(f"{path.name}.repaired")
        discard(fresh)
        with contextlib.closing(Database(store_url(fresh), LAYOUT)) as new:
            whole, lost = _salvaged(reader, progress)
            gone = [row for row in _readable(old, _ERASED) if _is_erased(row)]
            revisions = _Revisions(_readable(old, _LAST))
            with new.write() as db:
                for some in _chunks(whole):
                    sealed = some if seal is None else seal.seal_many(some)
                    inserted = [
                        _values(face) | {"revision": revisions.given(face.revision), "sealed": int(seal is not None)}
                        for face in sealed
                    ]
                    db.execute(insert(faces), inserted)
                for part in _chunks(gone):
                    rows = [dict(zip(_ERASED_COLUMNS, row, strict=True)) for row in part]
                    db.execute(insert(erased), [row | {"revision": revisions.given(row["revision"])} for row in rows])
                if times := {row[:3]: row for row in _readable(old, _TIMES) if _is_time(row)}.values():
                    db.execute(insert(erased_times), [dict(zip(_TIMES_COLUMNS, row, strict=True)) for row in times])
                db.execute(changes.update(), {"revision": revisions.last})
                if seal is not None:
                    db.execute(changes.update(), {"seal": seal.id, "sealed": 1})
                recount(db)
                carry(db, partial(_readable, old))
            kept = len(whole)
            made = max((found for (found,) in _readable(old, _MADE) if _is_count(found)), default=0)
            unnamed = max(0, made - kept - len(lost) - len(gone))
        if not kept and (lost or not _readable(old, _ROOT)):
            discard(fresh)
            raise EdgeError(f"no face of {path} can be read; restore a backup: edge-stscq store restore BACKUP")
        aside = moved_aside(path, "damaged")
    replace_store(fresh, path, aside)
    return Repair(str(path), kept, lost, unnamed, str(aside))


_LAST = "SELECT revision FROM changes"
_MADE = "SELECT seq FROM sqlite_sequence WHERE name = 'faces'"
_ROOT = "SELECT count(*) FROM faces"
_ERASED_COLUMNS = ("stream", "sequence", "device", "at", "lasting", "revision")
_ERASED = f"SELECT {', '.join(_ERASED_COLUMNS)} FROM erased"
_TIMES_COLUMNS = tuple(column.name for column in erased_times.columns)
_TIMES = f"SELECT {', '.join(_TIMES_COLUMNS)} FROM erased_times"
_LARGEST = 2**53
"""No counter of this program has come so far: more was damaged."""


class _Revisions:
    """Revisions of a repaired store: as they were, but each once; a damaged one becomes the next after all others."""

    def __init__(self, last: list[tuple[Any]]) -> None:
        self.last = max((found for (found,) in last if _is_count(found)), default=0)
        self._given: set[int] = set()

    def given(self, revision: Any) -> int:
        if not _is_count(revision) or revision > self.last or revision in self._given:
            self.last += 1
            revision = self.last
        self._given.add(revision)
        return int(revision)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and 0 < value < _LARGEST


def _is_erased(row: tuple[Any, ...]) -> bool:
    stream, number, *_ = row
    kinds = (bytes, int, str, float, int)
    typed = all(isinstance(value, kind) for value, kind in zip(row, kinds, strict=False))
    return typed and len(stream) == ID_BYTES and 0 <= number <= MAX_SEQUENCE


def _is_time(row: tuple[Any, ...]) -> bool:
    return all(isinstance(value, kind) for value, kind in zip(row, (str, float, float, float), strict=True))


class _RowReader:
    """Reads single rows of a damaged store, through its seal if it is sealed.

    Raises:
        EdgeError: it is sealed and no seal is given, it is not and one is, or it hangs on another key file.
    """

    def __init__(self, db: sqlite3.Connection, seal: FaceSeal | None, path: Path) -> None:
        self.db, self._seal = db, seal
        has_mark = any(row[1] == "sealed" for row in _readable(db, "PRAGMA table_info(faces)"))
        found = next((one for (one,) in _readable(db, "SELECT seal FROM changes")), None)
        sealed = has_mark and bool(found or _readable(db, "SELECT 1 FROM faces NOT INDEXED WHERE sealed = 1 LIMIT 1"))
        if sealed and seal is None:
            raise EdgeError(f"{path} is sealed and cannot be read without its key; give --seal file:SECRET")
        if seal is not None and not sealed:
            raise EdgeError(f"{path} is not sealed; omit --seal")
        if seal is not None and found not in (None, seal.id):
            raise EdgeError(f"{path} is sealed by keys of another file; give its own with --seal-keys")
        columns = ", ".join(f'"{name}"' for name in (STORED if has_mark else COLUMNS))
        self._query = f'SELECT {columns}{"" if has_mark else ", 0"} FROM faces NOT INDEXED WHERE "row" = ?'

    def fetch(self, row: int) -> StoredFace | None:
        with contextlib.suppress(*FAILURES):
            found = self.db.execute(self._query, (row,)).fetchone()
            return None if found is None else opened_rows([found], self._seal)[0]
        return None


def _salvaged(reader: _RowReader, progress: Progress) -> tuple[list[StoredFace], list[DamagedRow]]:
    """The faces that are whole, by row and each name once, and what is lost."""
    whole: dict[str, StoredFace] = {}
    lost: list[tuple[int, str, str | None]] = []
    names, rows = _row_numbers(reader.db)
    for row in sorted(rows):
        face = reader.fetch(row)
        reason = _damage(face)
        if face is not None and reason is None:
            whole.setdefault(face.id, face)
        else:
            lost.append((row, names.get(row) or (face.id if face else ""), reason))
        progress(1)
    named = [
        DamagedRow(name if name and name not in whole else f"row {row}", str(reason)) for row, name, reason in lost
    ]
    return list(whole.values()), named


_BY_NAME = "sqlite_autoindex_faces_1"
_INDEXES = (_BY_NAME, "faces_revision", "faces_device_row", "faces_device_occurred", "faces_received", "faces_occurred")


def _row_numbers(db: sqlite3.Connection) -> tuple[dict[int, str], set[int]]:
    """Names by row, as far as an index tells them, and all rows that anything leads to."""
    rows = {
        row for query in (
            'SELECT "row" FROM faces NOT INDEXED ORDER BY "row"',
            'SELECT "row" FROM faces NOT INDEXED ORDER BY "row" DESC',
            *(f'SELECT "row" FROM faces INDEXED BY {index} WHERE true ORDER BY 1' for index in _INDEXES),
        ) for (row,) in _readable(db, query)
    }  # fmt: skip
    devices = dict(_readable(db, 'SELECT "row", device FROM faces NOT INDEXED'))
    named = [
        *_readable(db, 'SELECT "row", stream, sequence FROM faces NOT INDEXED'),
        *_readable(db, f'SELECT "row", stream, sequence FROM faces INDEXED BY {_BY_NAME}'),
    ]
    names = {
        row: face_name(str(devices.get(row)), stream, number)
        for row, stream, number in named
        if isinstance(stream, bytes) and isinstance(number, int)
    }
    return names, {row for row in rows if isinstance(row, int)}


def _readable(db: sqlite3.Connection, query: str) -> list[Any]:
    """Rows up to the first that cannot be read, and none of a table that is not there."""
    found: list[Any] = []
    with contextlib.suppress(*FAILURES):
        found.extend(db.execute(query))
    return found


def _damage(face: StoredFace | None) -> str | None:
    if face is None:
        return "its row cannot be read"
    try:
        face.frame()
    except DamagedFaceError as error:
        return str(error)
    return None


def _values(face: StoredFace) -> dict[str, Any]:
    return {name: getattr(face, {"captured": "captured_ms"}.get(name, name)) for name in COLUMNS}


def _chunks(rows: list[Item]) -> Iterator[list[Item]]:
    return (rows[at : at + PAGE] for at in range(0, len(rows), PAGE))
