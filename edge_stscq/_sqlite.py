"""SQLite files that one program owns: the marks that say whose a file is, and transactions that take the lock first."""

import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

FAILURES = (sqlite3.Error, UnicodeDecodeError)
"""Raised by SQLite on a damaged file, whose words about a damaged definition may be no text."""
_RETRY_SECONDS = 0.02
"""Pause between two attempts at a lock that SQLite does not wait for."""


class Signature(NamedTuple):
    """Marks of a SQLite file."""

    application_id: int
    """Names the program that owns the file; 0 for none."""
    version: int
    """Version of its layout."""
    tables: int
    """Tables, indexes and triggers in it."""

    @property
    def blank(self) -> bool:
        """True of a file that nobody has used yet."""
        return self.application_id == 0 and self.tables == 0


def read_signature(db: sqlite3.Connection) -> Signature:
    """Marks of an open file."""
    queries = ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_master")
    return Signature(*(db.execute(query).fetchone()[0] for query in queries))


def read_version(db: sqlite3.Connection) -> int:
    """Version of the layout of an open file."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def sign(db: sqlite3.Connection, application_id: int, version: int) -> None:
    """Mark an open file as a program's own, with the version of its layout."""
    db.execute(f"PRAGMA application_id={application_id:d}")
    db.execute(f"PRAGMA user_version={version:d}")


def set_pragmas(db: sqlite3.Connection, pragmas: Iterable[str], wait_seconds: float) -> None:
    """Set pragmas, such as `journal_mode=WAL`, of an open file that other processes may open at the same time.

    Neither the recovery of a log nor the change of a journal mode waits for a lock by itself, whatever the connection's
    timeout.

    Raises:
        sqlite3.OperationalError: it is locked for longer than `wait_seconds`, or cannot be written.
    """
    end = time.monotonic() + wait_seconds
    while True:
        try:
            for pragma in pragmas:
                db.execute(f"PRAGMA {pragma}")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(_RETRY_SECONDS)
        else:
            return


@contextmanager
def immediate_transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """One writer at a time from the first statement on; commits at the end, or leaves the file as it was."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield db
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
