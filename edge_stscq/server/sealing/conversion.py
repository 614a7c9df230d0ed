"""A store sealed that was in the clear, and copies of the key file that are kept for some days."""

import calendar
import contextlib
import os
import re
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from edge_stscq._progress import Progress, no_progress
from edge_stscq._sqlite import FAILURES
from edge_stscq.errors import EdgeError
from edge_stscq.server.maintenance.files import discard, read_only
from edge_stscq.server.sealing.face_seal import FaceSeal
from edge_stscq.server.sealing.key_file import KeyFile
from edge_stscq.server.storage.database import Database, store_url
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from edge_stscq.server.storage.tables import LAYOUT, changes

BUNDLE = 500
"""Faces that are sealed in one transaction; writers get their turn between."""
DAY = 86400.0
_COPY = re.compile(r"keys-(\d{8}T\d{6}Z)(-\d+)?\.db")


def seal_store(place: Path | str, keys: Path, secret: bytes, progress: Progress = no_progress) -> int:
    """Seal a store that is in the clear, or make a sealed one; cut off, it goes on when it is run again.

    The key file is made if it is absent. Servers that have the store open store nothing more from the first moment on,
    until they are started again. At the end nothing is left in the clear in free pages and logs of the file.

    Args:
        progress: told how many faces were sealed.

    Returns:
        How many that were.

    Raises:
        EdgeError: the key file is another store's, hangs on another secret or cannot be written.
        StoreError: the store cannot be used.
    """
    with contextlib.closing(Database(store_url(place), LAYOUT)) as database, database.read() as db:
        seal_id = db.execute(select(changes.c.seal)).scalar_one()
    if seal_id is None and keys.exists():
        found = KeyFile(keys, secret)
        with contextlib.closing(found):
            if len(found):
                raise EdgeError(f"{keys} holds keys of another store; choose another --seal-keys")
    made = KeyFile(keys, secret) if keys.exists() or seal_id is not None else KeyFile.create(keys, secret)
    count = 0
    with contextlib.closing(SqlFaceStore(place, FaceSeal(made), converting=True)) as store:
        while some := store.seal_some(BUNDLE):
            count += some
            progress(some)
        store.end_sealing()
    return count


@dataclass(frozen=True)
class KeyBackup:
    """Result: the copy, how many keys it holds, and the older copies that were removed."""

    backup: str
    keys: int
    removed: list[str]


def backup_keys(keys: Path, secret: bytes, folder: Path, days: float, now: float | None = None) -> KeyBackup:
    """Copy the key file into a folder, and remove the copies there that are older than some days.

    A copy opens faces that are erased later, as long as it is kept: so it is kept for a time, and apart from the store.

    Raises:
        EdgeError: the key file cannot be used, or the folder cannot be written or is open to others.
    """
    with contextlib.closing(KeyFile(keys, secret)) as opened:
        count = len(opened)
    now = time.time() if now is None else now
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        output = _free(folder, now)
        partial = folder / f".{output.name}.partial"
        discard(partial)
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            with contextlib.closing(read_only(keys)) as source, contextlib.closing(sqlite3.connect(partial)) as copy:
                source.backup(copy)
                copy.execute("PRAGMA journal_mode=DELETE")
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            os.rename(partial, output)
        finally:
            discard(partial)
        removed = [old for old in sorted(folder.iterdir()) if old != output and _made(old, now) < now - days * DAY]
        for old in removed:
            _overwrite(old)
    except (OSError, *FAILURES) as error:
        raise EdgeError(f"cannot back up {keys} to {folder}: {error}; check both") from None
    return KeyBackup(str(output), count, [str(old) for old in removed])


def _free(folder: Path, now: float) -> Path:
    base = folder / f"keys-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now))}.db"
    path, number = base, 1
    while path.exists():
        number += 1
        path = base.with_name(f"{base.stem}-{number}.db")
    return path


def _made(path: Path, now: float) -> float:
    """When a copy was made, by its name; now of any other file."""
    match = _COPY.fullmatch(path.name)
    if match is None:
        return now
    return float(calendar.timegm(time.strptime(match[1], "%Y%m%dT%H%M%SZ")))


def _overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(bytes(os.fstat(file.fileno()).st_size))
        file.flush()
        os.fsync(file.fileno())
    path.unlink()
