"""Every face of a store read and checked, and what is whole of a damaged SQLite file written anew."""

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select

from edge_stscq._progress import Progress, no_progress
from edge_stscq.errors import EdgeError
from edge_stscq.server.maintenance.files import check_store, discard, exclusively, moved_aside, read_only, replace_store
from edge_stscq.server.storage.database import Database, StoreError, sqlite_path, store_url
from edge_stscq.server.storage.face_store import DamagedFaceError, StoredFace, face_name
from edge_stscq.server.storage.sql_face_store import COLUMNS, SqlFaceStore, typed_row
from edge_stscq.server.storage.tables import LAYOUT, changes, erased, faces

PAGE = 1000
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
        problems: of the database itself, a line each.
    """

    store: str
    faces: int = 0
    erased: int = 0
    damaged: list[DamagedRow] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        return not (self.damaged or self.problems)


def inspect_store(place: Path | str, progress: Progress = no_progress) -> Inspection:
    """Read every face of the store at `place` and hold it against its checksum; nothing is changed.

    Args:
        progress: told how many faces were read.

    Raises:
        EdgeError: there is no store, or it is another program's, of a newer version or too damaged to be opened.
    """
    path = sqlite_path(store_url(place))
    if path is not None:
        _check_there(path)
        with contextlib.closing(read_only(path)) as db:
            check_store(db, path)
    with contextlib.closing(SqlFaceStore(place)) as store:
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
        except StoreError as error:
            found.problems.append(f"reading ended: {error}")
    return found


def _judge(face: StoredFace, last: int, found: Inspection) -> None:
    try:
        face.frame()
        if not 0 < face.revision <= last:
            raise DamagedFaceError(f"revision {face.revision} was never given")
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
    except sqlite3.Error as error:
        return [str(error)]
    return [] if lines == ["ok"] else lines


@dataclass
class Repair:
    """Result of a repair: faces that are in the new file, those that are lost, and where the old file is."""

    store: str
    kept: int
    lost: list[DamagedRow]
    moved: str


def repair_store(path: Path, progress: Progress = no_progress) -> Repair:
    """Write what is whole of a SQLite store into a new file in its place; the old one is moved aside.

    Rows are found through the table, from both ends, and through each index, so that a damaged page takes no more than
    its own rows with it. Names of erased faces are kept.

    Raises:
        EdgeError: there is no such file, a server has it open, it is another program's, or nothing can be read.
    """
    _check_there(path)
    with exclusively(path) as old:
        fresh = path.with_name(f"{path.name}.repaired")
        discard(fresh)
        with contextlib.closing(Database(store_url(fresh), LAYOUT)) as new:
            kept, lost, last = 0, [], 0
            names, rows = _row_numbers(old)
            for some in _chunks(sorted(rows)):
                whole = []
                for row in some:
                    face = _fetch(old, row)
                    reason = _damage(face)
                    if face is not None and reason is None:
                        whole.append(face)
                        last = max(last, face.revision)
                    else:
                        lost.append(DamagedRow(names.get(row) or (face.id if face else f"row {row}"), str(reason)))
                with new.write() as db:
                    if whole:
                        db.execute(insert(faces), [dict(zip(COLUMNS, _values(face), strict=True)) for face in whole])
                kept += len(whole)
                progress(len(some))
            gone = _readable(old, "SELECT stream, sequence, device, at, lasting, revision FROM erased")
            last = max([last, *(row[5] for row in gone), *(row[0] for row in _readable(old, _LAST))])
            with new.write() as db:
                if gone:
                    columns = ("stream", "sequence", "device", "at", "lasting", "revision")
                    db.execute(insert(erased), [dict(zip(columns, row, strict=True)) for row in gone])
                db.execute(changes.update(), {"revision": last})
                assert db.execute(select(changes.c.overwrites)).scalar_one() == 1
        if not kept and lost:
            discard(fresh)
            raise EdgeError(f"no face of {path} can be read; restore a backup: edge-stscq store restore BACKUP")
        aside = moved_aside(path, "damaged")
    replace_store(fresh, path, aside)
    return Repair(str(path), kept, lost, str(aside))


_LAST = "SELECT revision FROM changes"
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
    names = {
        row: face_name(device, stream, number)
        for row, device, stream, number in (
            *_readable(db, f'SELECT "row", \'?\', stream, sequence FROM faces INDEXED BY {_BY_NAME}'),
            *_readable(db, 'SELECT "row", device, stream, sequence FROM faces'),
        )
        if isinstance(device, str) and isinstance(stream, bytes) and isinstance(number, int)
    }
    return names, {row for row in rows if isinstance(row, int)}


def _readable(db: sqlite3.Connection, query: str) -> list[Any]:
    """Rows up to the first that cannot be read, and none of a table that is not there."""
    found: list[Any] = []
    with contextlib.suppress(sqlite3.Error):
        found.extend(db.execute(query))
    return found


def _fetch(db: sqlite3.Connection, row: int) -> StoredFace | None:
    columns = ", ".join(f'"{name}"' for name in COLUMNS)
    with contextlib.suppress(sqlite3.Error):
        found = db.execute(f'SELECT {columns} FROM faces NOT INDEXED WHERE "row" = ?', (row,)).fetchone()
        return None if found is None else typed_row(found)
    return None


def _damage(face: StoredFace | None) -> str | None:
    if face is None:
        return "its row cannot be read"
    try:
        face.frame()
    except DamagedFaceError as error:
        return str(error)
    return None


def _values(face: StoredFace) -> tuple[Any, ...]:
    return tuple(getattr(face, {"captured": "captured_ms"}.get(name, name)) for name in COLUMNS)


def _chunks(rows: list[int]) -> Iterator[list[int]]:
    return (rows[at : at + PAGE] for at in range(0, len(rows), PAGE))
