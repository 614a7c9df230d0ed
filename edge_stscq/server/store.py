"""Accepted frames, kept in one SQLite file.

`accept` returns after the commit is on disk (write-ahead log, `synchronous=FULL`), so what the server acknowledges
survives a power cut. A face is named by its device and sequence number: a retry is recognised and answered as a
duplicate, a frame that carries more layers of the same face replaces the shorter one, and a different face under a
number already taken is refused instead of being dropped in silence.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge_stscq.errors import EdgeError

MAX_SEQUENCE = 2**53 - 1
"""Largest sequence number: the largest integer that every JSON reader keeps exactly."""

_APPLICATION_ID = int.from_bytes(b"STSQ")
_VERSION = 2
_SCHEMA = """
CREATE TABLE faces (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    device TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    model BLOB NOT NULL,
    layers INTEGER NOT NULL,
    frame BLOB NOT NULL,
    received REAL NOT NULL,
    revision INTEGER NOT NULL UNIQUE,
    UNIQUE (device, sequence)
) STRICT
"""
_INSERT = "INSERT INTO faces (device, sequence, model, layers, frame, received, revision) VALUES (?, ?, ?, ?, ?, ?, ?)"
_COLUMNS = "row, device, sequence, model, layers, frame, received, revision"

Outcome = Literal["stored", "extended", "duplicate"]


class ConflictError(EdgeError):
    """Another face is stored under this device and sequence number."""


@dataclass(frozen=True, slots=True)
class NewFrame:
    """A checked frame: its bytes as they arrived and the number of layers in it."""

    frame: bytes
    layers: int


@dataclass(frozen=True, slots=True)
class StoredFace:
    """One row: `row` orders faces by arrival, `received` is in seconds since 1970 UTC; `revision` orders changes: it
    is raised over that of every other face when the face gains layers.
    """

    row: int
    device: str
    sequence: int
    model: bytes
    layers: int
    frame: bytes
    received: float
    revision: int

    @property
    def id(self) -> str:
        return f"{self.device}-{self.sequence}"


@dataclass(frozen=True, slots=True)
class DeviceTally:
    """What one device has in the store: all its faces, and those that came in the period asked for."""

    device: str
    faces: int
    bytes: int
    last_received: float
    recent_faces: int
    recent_bytes: int


class FaceStore:
    """Open or create the store at `path`; safe to call from many threads.

    Raises:
        EdgeError: the file is not such a store, is of a newer version, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._db = sqlite3.connect(path, timeout=5, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise EdgeError(f"cannot open the store {path}: {error}; choose another --store") from None
        try:
            self._prepare(path)
        except sqlite3.Error as error:
            self._db.close()
            raise EdgeError(f"{path} is not usable as a store: {error}; choose another --store") from None
        except EdgeError:
            self._db.close()
            raise

    def _prepare(self, path: Path) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "fullfsync=ON"):
            self._db.execute(f"PRAGMA {pragma}")
        with self._transaction() as db:
            application, version, tables = (
                db.execute(query).fetchone()[0]
                for query in ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_master")
            )
            if application == 0 and tables == 0:
                db.execute(_SCHEMA)
                db.execute(f"PRAGMA application_id={_APPLICATION_ID}")
                db.execute(f"PRAGMA user_version={_VERSION}")
            elif application != _APPLICATION_ID:
                raise EdgeError(f"{path} is a database of another program; choose another --store")
            elif version != _VERSION:
                raise EdgeError(f"{path} is of store version {version}, this program's is {_VERSION}; upgrade it")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """One writer at a time; commits at the end, or leaves the store as it was."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def accept(
        self,
        device: str,
        first: int,
        model: bytes,
        frames: Sequence[NewFrame],
        same_face: Callable[[bytes, bytes], bool],
    ) -> list[Outcome]:
        """Store `frames` as faces `device-first`, `device-(first + 1)`, ... in one durable transaction.

        Args:
            same_face: whether two frames of this model agree in the layers both have.

        Returns:
            What became of each frame, in order.

        Raises:
            ConflictError: a number is taken by another face; nothing was stored.
        """
        now = time.time()
        with self._transaction() as db:
            outcomes: list[Outcome] = []
            revision = _latest(db)
            for sequence, new in enumerate(frames, first):
                old = self._find(db, device, sequence)
                if old is None:
                    revision += 1
                    db.execute(_INSERT, (device, sequence, model, new.layers, new.frame, now, revision))
                    outcomes.append("stored")
                elif old.model != model or not same_face(old.frame, new.frame):
                    free = db.execute("SELECT max(sequence) + 1 FROM faces WHERE device = ?", (device,)).fetchone()[0]
                    raise ConflictError(
                        f"{old.id} is already another face; the next free sequence number of {device} is {free}"
                    )
                elif new.layers > old.layers:
                    revision += 1
                    query = "UPDATE faces SET layers = ?, frame = ?, revision = ? WHERE row = ?"
                    db.execute(query, (new.layers, new.frame, revision, old.row))
                    outcomes.append("extended")
                else:
                    outcomes.append("duplicate")
        return outcomes

    @staticmethod
    def _find(db: sqlite3.Connection, device: str, sequence: int) -> StoredFace | None:
        query = f"SELECT {_COLUMNS} FROM faces WHERE device = ? AND sequence = ?"
        found = db.execute(query, (device, sequence)).fetchone()
        return None if found is None else StoredFace(*found)

    def find(self, face_id: str) -> StoredFace | None:
        """The face named `<device>-<sequence>`, or None."""
        device, _, sequence = face_id.rpartition("-")
        if not (sequence.isascii() and sequence.isdecimal() and len(sequence) <= 16 and str(int(sequence)) == sequence):
            return None
        with self._lock:
            return self._find(self._db, device, int(sequence))

    def page(self, after: int, limit: int, device: str | None = None) -> list[StoredFace]:
        """At most `limit` faces, of one device if it is given, that arrived after row `after`, oldest first."""
        with self._lock:
            query = f"SELECT {_COLUMNS} FROM faces WHERE row > ? AND device = coalesce(?, device) ORDER BY row LIMIT ?"
            return [StoredFace(*found) for found in self._db.execute(query, (after, device, limit))]

    def changes(self, after: int, limit: int, device: str | None = None) -> list[StoredFace]:
        """At most `limit` faces, of one device if it is given, that came or grew after revision `after`, in order."""
        with self._lock:
            query = (
                f"SELECT {_COLUMNS} FROM faces WHERE revision > ? AND device = coalesce(?, device) "
                "ORDER BY revision LIMIT ?"
            )
            return [StoredFace(*found) for found in self._db.execute(query, (after, device, limit))]

    def latest_revision(self) -> int:
        """The highest revision of a face; 0 in an empty store."""
        with self._lock:
            return _latest(self._db)

    def devices(self, since: float, device: str | None = None) -> list[DeviceTally]:
        """One tally a device, of one device if it is given; recent is what came at `since` (seconds) or later."""
        with self._lock:
            query = (
                "SELECT device, count(*), sum(length(frame)), max(received), sum(received >= :since), "
                "sum((received >= :since) * length(frame)) FROM faces WHERE device = coalesce(:device, device) "
                "GROUP BY device ORDER BY device"
            )
            return [DeviceTally(*found) for found in self._db.execute(query, {"since": since, "device": device})]

    def count(self) -> int:
        with self._lock:
            return int(self._db.execute("SELECT count(*) FROM faces").fetchone()[0])

    def check_writable(self) -> None:
        """Raise `sqlite3.Error` if a frame could not be stored now (locked, read-only or gone)."""
        with self._transaction():
            pass

    def close(self) -> None:
        with self._lock:
            self._db.close()


def _latest(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT coalesce(max(revision), 0) FROM faces").fetchone()[0])
