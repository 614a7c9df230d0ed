"""The SQLite file under a spool: its tables, how it is opened, and what its failures mean.

Commits are on disk when they return (write-ahead log, `synchronous=FULL`); what is deleted is overwritten
(`secure_delete`), since a frame is a biometric template.

Basic layers and further layers are tables of their own, and rows never change: both leave oldest first, so that what is
deleted gives whole pages back, which the next face takes. The bound is held against the pages in use, by counting them;
SQLite grows the file only when none is free, so the file keeps to the same bound.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_stscq._sqlite import immediate_transaction, read_signature, sign
from edge_stscq.errors import EdgeError
from edge_stscq.protocol import check_device

_APPLICATION_ID = int.from_bytes(b"SPOL")
_VERSION = 2
_PRAGMAS = (
    "journal_mode=WAL", "synchronous=FULL", "fullfsync=ON", "secure_delete=ON", "wal_autocheckpoint=64",
    "journal_size_limit=1048576",
)  # fmt: skip
_TABLES = (
    "CREATE TABLE faces (sequence INTEGER PRIMARY KEY, model BLOB NOT NULL, captured REAL NOT NULL) STRICT",
    "CREATE TABLE basics (sequence INTEGER PRIMARY KEY, frame BLOB NOT NULL) STRICT",
    "CREATE TABLE further (sequence INTEGER PRIMARY KEY, frame BLOB NOT NULL) STRICT",
    """CREATE TABLE leases (
        token INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL, until REAL NOT NULL
    ) STRICT""",
)
_STATE = """CREATE TABLE state (
    device TEXT NOT NULL,
    max_bytes INTEGER NOT NULL,
    next INTEGER NOT NULL DEFAULT 0,
    taken INTEGER NOT NULL DEFAULT 0,
    delivered INTEGER NOT NULL DEFAULT 0,
    thinned INTEGER NOT NULL DEFAULT 0,
    dropped INTEGER NOT NULL DEFAULT 0,
    damaged INTEGER NOT NULL DEFAULT 0,
    purged INTEGER NOT NULL DEFAULT 0
) STRICT"""
_FROM_VERSION_1 = (
    *(f"DROP TRIGGER {name}" for name in ("come", "go", "shrink")),
    *(f"DROP INDEX {name}" for name in ("first_waits", "rest_waits")),
    "ALTER TABLE faces RENAME TO old",
    *_TABLES,
    "INSERT INTO faces SELECT sequence, model, captured FROM old ORDER BY sequence",
    "INSERT INTO basics SELECT sequence, first FROM old WHERE first IS NOT NULL ORDER BY sequence",
    "INSERT INTO further SELECT sequence, rest FROM old WHERE rest IS NOT NULL ORDER BY sequence",
    "DROP TABLE old",
    "ALTER TABLE state DROP COLUMN used",
)
"""Version 1 kept both frames in the row of their face. Its leases end here: the server knows what it has already."""


class SpoolFile:
    """Open the file at `path`, or make it if `device` is given. For one thread; any number of processes.

    Args:
        device: name of the device that it is of.
        max_bytes: bound that a new file gets.

    Raises:
        EdgeError: there is no file, it is of another device or program or a newer version, it is damaged, or it cannot
            be written. It is left as it was.
    """

    def __init__(self, path: Path, device: str | None, max_bytes: int) -> None:
        self._path = path
        if device is not None:
            check_device(device)
        elif not path.exists():
            raise EdgeError(f"there is no spool {path}; make one with: edge-stscq capture --spool {path}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as error:
            raise EdgeError(f"cannot open the spool {path}: {error.strerror}; choose another file") from None
        self._db = sqlite3.connect(path, timeout=30, isolation_level=None)
        try:
            with self._named_errors():
                for pragma in _PRAGMAS:
                    self._db.execute(f"PRAGMA {pragma}")
            with self.transaction() as db:
                self._prepare(db, device, max_bytes)
        except EdgeError:
            self.close()
            raise

    def _prepare(self, db: sqlite3.Connection, device: str | None, max_bytes: int) -> None:
        found = read_signature(db)
        if device is not None and found.blank:
            for statement in (*_TABLES, _STATE):
                db.execute(statement)
            db.execute("INSERT INTO state (device, max_bytes) VALUES (?, ?)", (device, max_bytes))
            sign(db, _APPLICATION_ID, _VERSION)
        elif found.application_id != _APPLICATION_ID:
            raise EdgeError(f"{self._path} is not a spool; choose another file")
        elif found.version == 1:
            for statement in _FROM_VERSION_1:
                db.execute(statement)
            sign(db, _APPLICATION_ID, _VERSION)
        elif found.version != _VERSION:
            raise EdgeError(
                f"{self._path} is of spool version {found.version}, this program's is {_VERSION}; upgrade edge-stscq"
            )
        (owner,) = db.execute("SELECT device FROM state").fetchone()
        if device not in (None, owner):
            raise EdgeError(f"{self._path} holds faces of device {owner}; give --device {owner} or another file")

    @staticmethod
    def used(db: sqlite3.Connection) -> int:
        """Bytes of the pages that are not free."""
        pages, free, size = (
            db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def shrink(self, max_bytes: int) -> None:
        """Give free pages back to the disk if the file is over `max_bytes`."""
        with self.transaction() as db:
            pages, size = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
        if pages * size > max_bytes:
            self.vacuum()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One writer at a time; commits at the end, or leaves the file as it was.

        Raises:
            EdgeError: the file is damaged, the disk is full, or another process writes for half a minute.
        """
        with self._named_errors(), immediate_transaction(self._db) as db:
            yield db

    def vacuum(self) -> None:
        """Give the room of deleted faces back to the disk, and leave none of their bytes in the log."""
        with self._named_errors():
            self._db.execute("VACUUM")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorname", "").startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
                raise EdgeError(
                    f"the spool {self._path} is damaged ({error}) and left as it is; move it and its -wal file away, "
                    "try `sqlite3 FILE .recover` on them, and go on with a new spool"
                ) from None
            raise EdgeError(f"cannot use the spool {self._path} now: {error}; check the disk and try again") from None
