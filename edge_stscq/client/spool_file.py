"""The SQLite file under a spool: its tables, how it is opened, and what its failures mean.

Commits are on disk when they return (write-ahead log, `synchronous=FULL`); what is deleted is overwritten
(`secure_delete`), since a frame is a biometric template. Triggers keep the sum of all frames, so that no reader adds
them up.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_stscq.client.names import check_device
from edge_stscq.errors import EdgeError

FACE_COST = 160
"""Bytes that a face is charged beside its frames: numbers, times, indexes and pages that are half full."""

_APPLICATION_ID = int.from_bytes(b"SPOL")
_VERSION = 1
_PRAGMAS = (
    "journal_mode=WAL", "synchronous=FULL", "fullfsync=ON", "secure_delete=ON", "wal_autocheckpoint=64",
    "journal_size_limit=1048576",
)  # fmt: skip
_COST = f"{FACE_COST} + ifnull(length({{0}}.first), 0) + ifnull(length({{0}}.rest), 0)"
_SCHEMA = (
    """CREATE TABLE faces (
        sequence INTEGER PRIMARY KEY,
        model BLOB NOT NULL,
        captured REAL NOT NULL,
        first BLOB,
        rest BLOB,
        lease INTEGER NOT NULL DEFAULT 0,
        until REAL NOT NULL DEFAULT 0,
        CHECK (first IS NOT NULL OR rest IS NOT NULL)
    ) STRICT""",
    "CREATE INDEX first_waits ON faces (sequence) WHERE first IS NOT NULL",
    "CREATE INDEX rest_waits ON faces (sequence) WHERE rest IS NOT NULL",
    """CREATE TABLE state (
        device TEXT NOT NULL,
        max_bytes INTEGER NOT NULL,
        next INTEGER NOT NULL DEFAULT 0,
        used INTEGER NOT NULL DEFAULT 0,
        taken INTEGER NOT NULL DEFAULT 0,
        delivered INTEGER NOT NULL DEFAULT 0,
        thinned INTEGER NOT NULL DEFAULT 0,
        dropped INTEGER NOT NULL DEFAULT 0,
        damaged INTEGER NOT NULL DEFAULT 0,
        purged INTEGER NOT NULL DEFAULT 0
    ) STRICT""",
    f"CREATE TRIGGER come AFTER INSERT ON faces BEGIN UPDATE state SET used = used + {_COST.format('new')}; END",
    f"CREATE TRIGGER go AFTER DELETE ON faces BEGIN UPDATE state SET used = used - ({_COST.format('old')}); END",
    f"""CREATE TRIGGER shrink AFTER UPDATE OF first, rest ON faces
        BEGIN UPDATE state SET used = used + {_COST.format("new")} - ({_COST.format("old")}); END""",
)


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
        application, version, tables = (
            db.execute(query).fetchone()[0]
            for query in ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_master")
        )
        if device is not None and application == 0 and tables == 0:
            for statement in _SCHEMA:
                db.execute(statement)
            db.execute("INSERT INTO state (device, max_bytes) VALUES (?, ?)", (device, max_bytes))
            db.execute(f"PRAGMA application_id={_APPLICATION_ID}")
            db.execute(f"PRAGMA user_version={_VERSION}")
        elif application != _APPLICATION_ID:
            raise EdgeError(f"{self._path} is not a spool; choose another file")
        elif version != _VERSION:
            raise EdgeError(f"{self._path} is of spool version {version}, this program's is {_VERSION}; upgrade it")
        (owner,) = db.execute("SELECT device FROM state").fetchone()
        if device not in (None, owner):
            raise EdgeError(f"{self._path} holds faces of device {owner}; give --device {owner} or another file")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One writer at a time; commits at the end, or leaves the file as it was.

        Raises:
            EdgeError: the file is damaged, the disk is full, or another process writes for half a minute.
        """
        with self._named_errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def wipe(self) -> None:
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
