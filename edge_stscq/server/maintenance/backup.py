"""Copies of a SQLite store: made while servers use it, and put back without bringing erased faces back."""

import contextlib
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import insert, select

from edge_stscq._sqlite import FAILURES
from edge_stscq.errors import EdgeError
from edge_stscq.server.maintenance.files import discard, exclusively, moved_aside, read_only, replace_store
from edge_stscq.server.maintenance.inspection import inspect_store
from edge_stscq.server.sealing.face_seal import FaceSeal
from edge_stscq.server.storage.database import Database, sqlite_path, store_url
from edge_stscq.server.storage.erasure import erase_rows, keep_away
from edge_stscq.server.storage.face_store import FaceName
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from edge_stscq.server.storage.tables import LAYOUT, changes, erased, grouping
from edge_stscq.server.storage.visit_rows import head

_PAGES = 4096
"""Copied at a time; writers get their turn between."""


def backup_store(place: Path | str, output: Path, seal: FaceSeal | None = None) -> int:
    """Copy the store at `place` to a new file, as it is at one moment; servers may go on meanwhile.

    The keys of a sealed store are not in the copy; `backup_keys` copies them elsewhere.

    Args:
        seal: of a sealed store.

    Returns:
        Faces in the copy, all of them read and whole.

    Raises:
        EdgeError: the store is not a SQLite file, `output` exists or cannot be written, or a face is damaged: a copy
            of damage is no backup.
    """
    path = sqlite_path(store_url(place))
    if path is None:
        raise EdgeError("a PostgreSQL store is backed up by its own tools; see pg_dump")
    if not path.exists():
        raise EdgeError(f"there is no store {path}; give its path with --store")
    partial = output.with_name(f".{output.name}.partial")
    if output.exists():
        raise EdgeError(f"{output} exists; choose another -o")
    try:
        discard(partial)
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        with (
            contextlib.closing(read_only(path)) as source,
            contextlib.closing(sqlite3.connect(partial)) as copy,
        ):
            source.backup(copy, pages=_PAGES)
        found = inspect_store(partial, seal=seal)
        if not found.whole:
            raise EdgeError(f"{path} is damaged and not backed up; see: edge-stscq store check --store {path}")
        with contextlib.closing(sqlite3.connect(partial)) as copy:
            copy.execute("PRAGMA journal_mode=DELETE")  # a file that is whole by itself may be copied by anybody
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        os.link(partial, output)
    except (OSError, *FAILURES) as error:
        raise EdgeError(f"cannot back up {path} to {output}: {error}; check both folders") from None
    finally:
        discard(partial)
    return found.faces


@dataclass(frozen=True)
class Restored:
    """Result: faces in the store, those of the backup that had been erased since, and where the old file is.

    Attributes:
        keyless: of these, faces of which only the missing key told.
    """

    store: str
    faces: int
    erased: int
    keyless: int
    moved: str | None


def restore_store(backup: Path, path: Path, seal: FaceSeal | None = None) -> Restored:
    """Put a copy of a backup in the place of the store at `path`; the old one is moved aside.

    Faces that were erased from the store are erased from the copy, so far as the old file can be read. Faces
    whose key is gone from the key file are erased as well. Revisions go on above those of both.

    Args:
        seal: of a sealed store.

    Raises:
        EdgeError: the backup is absent, damaged or no store; or a server has the store open.
    """
    if not backup.exists():
        raise EdgeError(f"there is no backup {backup}")
    fresh = path.with_name(f"{path.name}.restoring")
    discard(fresh)
    try:
        with contextlib.closing(read_only(backup)) as source:
            os.close(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            with contextlib.closing(sqlite3.connect(fresh)) as copy:
                source.backup(copy)
        inspected = inspect_store(fresh, seal=seal)
    except (OSError, *FAILURES) as error:
        discard(fresh)
        raise EdgeError(f"{backup} cannot be read as a backup: {error}; choose another") from None
    except EdgeError:
        discard(fresh)
        raise
    if inspected.damaged or inspected.problems:
        discard(fresh)
        raise EdgeError(f"{backup} is damaged; see: edge-stscq store check --store {backup}")
    gone, keyless, last, aside = 0, 0, 0, None
    try:
        if path.exists():
            with exclusively(path) as old:
                names, last = _erased(old)
                gone = _apply(fresh, names, _erased_times(old), last, seal)
            aside = moved_aside(path, "replaced")
        if seal is not None:
            keyless = _drop_keyless(fresh, inspected.keyless, seal)
    except BaseException:
        discard(fresh)
        raise
    if aside is None:
        os.rename(fresh, path)
    else:
        replace_store(fresh, path, aside)
    left = inspected.faces + len(inspected.keyless) - gone - keyless
    return Restored(str(path), left, gone + keyless, keyless, None if aside is None else str(aside))


def _erased(db: sqlite3.Connection) -> tuple[list[tuple[bytes, int, str, float]], int]:
    """Names of faces that never come back, and the last revision, of a store of any layout."""
    names, last = [], 0
    with contextlib.suppress(*FAILURES):
        names = db.execute("SELECT stream, sequence, device, at FROM erased WHERE lasting = 1").fetchall()
    with contextlib.suppress(*FAILURES):
        (last,) = db.execute("SELECT revision FROM changes").fetchone()
    return names, last


def _erased_times(db: sqlite3.Connection) -> list[tuple[str, float, float]]:
    """Device, begin and end of times of which all was erased, of a store of any layout."""
    with contextlib.suppress(*FAILURES):
        return db.execute("SELECT device, since, until FROM erased_times").fetchall()
    return []


def _apply(
    fresh: Path, names: list[tuple[bytes, int, str, float]], times: list[tuple[str, float, float]], last: int,
    seal: FaceSeal | None,
) -> int:  # fmt: skip
    """Erase faces of the copy; also names that it does not have stay away. How many faces there were."""
    with contextlib.closing(Database(store_url(fresh), LAYOUT)) as database, database.write() as db:
        begin = max(last, db.execute(select(changes.c.revision)).scalar_one())
        gone = erase_rows(db, [FaceName(bytes(stream), number) for stream, number, _, _ in names], begin, True)
        known = {tuple(row) for row in db.execute(select(erased.c.stream, erased.c.sequence))}
        missing = [name for name in names if (bytes(name[0]), name[1]) not in known]
        rows = [
            {"stream": stream, "sequence": number, "device": device, "at": at, "lasting": 1, "revision": revision}
            for revision, (stream, number, device, at) in enumerate(missing, begin + gone + 1)
        ]
        if rows:
            db.execute(insert(erased), rows)
        for device, since, until in times:
            keep_away(db, device, since, until)
        db.execute(changes.update(), {"revision": begin + gone + len(rows)})
    with contextlib.closing(SqlFaceStore(fresh, seal)) as store:
        store.scrub()
    return gone


def _drop_keyless(fresh: Path, ids: list[str], seal: FaceSeal) -> int:
    """Remove what no key opens any more from the copy: faces, which may come again, and people's names."""
    with contextlib.closing(SqlFaceStore(fresh, seal)) as store:
        there = [face for face in map(store.find, ids) if face is not None]
        gone = store.erase([FaceName(face.stream, face.sequence) for face in there], lasting=False)
        with store.database.write() as db:
            _, changed, _, _ = head(db)
            db.execute(grouping.update(), {"changed": changed + 1})
            seal.people.clear_keyless(db, changed + 1)
        store.scrub()
    return gone
