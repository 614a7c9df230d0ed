"""SQLite files of a store as a whole: taken by one process alone, moved aside, put in place."""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from edge_stscq._sqlite import FAILURES, read_signature
from edge_stscq.errors import EdgeError
from edge_stscq.server.storage.tables import LAYOUT

_BESIDE = ("-wal", "-shm")


@contextmanager
def exclusively(path: Path) -> Iterator[sqlite3.Connection]:
    """An open store that no other process has open, nor can open before the block ends.

    Its log is taken into the file first, as far as it can be read.

    Raises:
        EdgeError: a server has it open, or it is no store.
    """
    db = sqlite3.connect(path, timeout=1, isolation_level=None)
    db.text_factory = lambda found: found.decode(errors="replace")
    try:
        try:
            db.execute("PRAGMA locking_mode=EXCLUSIVE")
            db.execute("BEGIN EXCLUSIVE")
            db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname in ("SQLITE_BUSY", "SQLITE_LOCKED"):
                raise EdgeError(f"{path} is in use; stop the servers that have it open and run this again") from None
            raise EdgeError(f"{path} cannot be opened: {error}; restore a backup: edge-stscq store restore") from None
        except FAILURES as error:
            raise EdgeError(f"{path} cannot be read at all ({error}); restore a backup instead") from None
        check_store(db, path)
        yield db
    finally:
        db.close()


def read_only(path: Path) -> sqlite3.Connection:
    """A connection through which nothing can be changed."""
    return sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True)


def check_store(db: sqlite3.Connection, path: Path) -> None:
    """Refuse an open file that is no store of this program, or that cannot be read at all."""
    try:
        found = read_signature(db)
    except FAILURES as error:
        raise EdgeError(f"{path} cannot be read at all ({error}); restore a backup instead") from None
    if found.application_id != LAYOUT.application_id:
        raise EdgeError(f"{path} is no store of this program; give another file")


def discard(path: Path) -> None:
    """Remove a file of SQLite with what lies beside it."""
    for suffix in ("", *_BESIDE):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def moved_aside(path: Path, why: str) -> Path:
    """A free name beside the file: its own, why it was moved, and the time in UTC."""
    base = path.with_name(f"{path.name}.{why}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
    aside, number = base, 1
    while aside.exists():
        number += 1
        aside = base.with_name(f"{base.name}-{number}")
    return aside


def replace_store(fresh: Path, path: Path, aside: Path) -> None:
    """Keep the store at `path`, with its log, under the name `aside`, and put a finished one in its place at once."""
    with suppress(FileNotFoundError):
        os.link(path, aside)
    for suffix in _BESIDE:
        with suppress(FileNotFoundError):
            os.rename(f"{path}{suffix}", f"{aside}{suffix}")
    os.replace(fresh, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
