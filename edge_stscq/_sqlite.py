"""SQLite files that one program owns: the marks that say whose a file is, and transactions that take the lock first."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

FAILURES = (sqlite3.Error, UnicodeDecodeError)
"""Raised by SQLite on a damaged file, whose words about a damaged definition may be no text."""


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
