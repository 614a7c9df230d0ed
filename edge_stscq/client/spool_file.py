"""The SQLite file under a spool: its tables, how it is opened, and what its failures mean.

Commits are on disk when they return (write-ahead log, `synchronous=FULL`); what is deleted is overwritten
(`secure_delete`), since a frame is a biometric template.

Basic layers and further layers are tables of their own, and rows never change: both leave oldest first, so that what is
deleted gives whole pages back, which the next face takes. The bound is held against the pages in use, by counting them;
SQLite grows the file only when none is free, so the file keeps to the same bound.

Whatever empties a spool writes, too, and a full disk must not keep it from that: a reserve of `RESERVE` bytes lies
beside the file, and goes when nothing else is left.
"""

import os
import secrets
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from edge_stscq._sqlite import immediate_transaction, read_signature, read_version, set_pragmas, sign
from edge_stscq.errors import EdgeError
from edge_stscq.protocol import check_device
from edge_stscq.stream.envelope import new_stream_key, stream_id

if TYPE_CHECKING:
    from edge_stscq.sealing.spool_seal import SpoolSeal

WAIT = 30.0
"""Seconds for another process that writes: one that seals or empties a large spool takes a while."""
RESERVE = 256 * 1024
"""Bytes: the log of what 1,000 faces leave behind."""

_APPLICATION_ID = int.from_bytes(b"SPOL")
_VERSION = 3
_SEALED_VERSION = 4
"""Of a file whose frames are sealed: an earlier program refuses it."""
_LONGEST_REASON = 200
"""Characters of SQLite's words: of a damaged definition, it quotes all."""
_PRAGMAS = (
    "journal_mode=WAL", "synchronous=FULL", "fullfsync=ON", "secure_delete=ON", "wal_autocheckpoint=64",
    "journal_size_limit=1048576",
)  # fmt: skip
_FACES = """CREATE TABLE faces (
    sequence INTEGER PRIMARY KEY,
    version INTEGER NOT NULL,
    model BLOB NOT NULL,
    coder BLOB NOT NULL,
    kind INTEGER NOT NULL,
    clock INTEGER NOT NULL,
    captured REAL,
    track INTEGER,
    quality INTEGER,
    extensions BLOB NOT NULL
) STRICT"""
"""`version` is the wire's: what lies in `basics` and `further` is a frame of version 1, or a `Part` of version 2."""
_FRAMES = (
    "CREATE TABLE basics (sequence INTEGER PRIMARY KEY, frame BLOB NOT NULL) STRICT",
    "CREATE TABLE further (sequence INTEGER PRIMARY KEY, frame BLOB NOT NULL) STRICT",
    """CREATE TABLE leases (
        token INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL, until REAL NOT NULL
    ) STRICT""",
)
_REFUSED = """CREATE TABLE refused (
    sequence INTEGER PRIMARY KEY, code TEXT NOT NULL, reason TEXT NOT NULL, at REAL NOT NULL
) STRICT"""
"""Faces that a server will not take, set aside until someone says `retry` or `drop`."""
_STATE = """CREATE TABLE state (
    device TEXT NOT NULL,
    max_bytes INTEGER NOT NULL,
    next INTEGER NOT NULL DEFAULT 0,
    taken INTEGER NOT NULL DEFAULT 0,
    delivered INTEGER NOT NULL DEFAULT 0,
    thinned INTEGER NOT NULL DEFAULT 0,
    dropped INTEGER NOT NULL DEFAULT 0,
    damaged INTEGER NOT NULL DEFAULT 0,
    purged INTEGER NOT NULL DEFAULT 0,
    key BLOB NOT NULL DEFAULT x'',
    seal INTEGER NOT NULL DEFAULT 0
) STRICT"""
"""`seal` is a CRC-32 of device and key: every checksum in the file depends on them."""
_BUNDLE = 500
"""Frames that are read at a time."""
_SEALING = "CREATE TABLE sealing (salt BLOB NOT NULL, verifier BLOB NOT NULL) STRICT"
_MODEL_1 = "CREATE TABLE faces (sequence INTEGER PRIMARY KEY, model BLOB NOT NULL, captured REAL NOT NULL) STRICT"
_FROM_VERSION_1 = (
    *(f"DROP TRIGGER {name}" for name in ("come", "go", "shrink")),
    *(f"DROP INDEX {name}" for name in ("first_waits", "rest_waits")),
    "ALTER TABLE faces RENAME TO old",
    _MODEL_1,
    *_FRAMES,
    "INSERT INTO faces SELECT sequence, model, captured FROM old ORDER BY sequence",
    "INSERT INTO basics SELECT sequence, first FROM old WHERE first IS NOT NULL ORDER BY sequence",
    "INSERT INTO further SELECT sequence, rest FROM old WHERE rest IS NOT NULL ORDER BY sequence",
    "DROP TABLE old",
    "ALTER TABLE state DROP COLUMN used",
)
"""Version 1 kept both frames in the row of their face. Its leases end here: the server knows what it has already."""
_FROM_VERSION_2 = (
    "ALTER TABLE faces RENAME TO old",
    _FACES,
    "INSERT INTO faces SELECT sequence, 1, model, zeroblob(8), 0, 0, captured, NULL, NULL, x'' FROM old "
    "ORDER BY sequence",
    "DROP TABLE old",
    _REFUSED,
    "ALTER TABLE state ADD COLUMN key BLOB NOT NULL DEFAULT x''",
    "ALTER TABLE state ADD COLUMN seal INTEGER NOT NULL DEFAULT 0",
)
"""Faces of version 2 of the file are frames of version 1 of the wire and are sent as such: their server may have the
basic layers already, under the device's name and their number."""
_BEGIN_STREAM = "UPDATE state SET key = ?, seal = ?"

Result = TypeVar("Result")


class SpoolUnavailableError(EdgeError):
    """The spool takes nothing now, and will again: another process holds it, or its disk is full."""


class FullDiskError(SpoolUnavailableError):
    """The disk has no room for what was to be written."""


class SpoolFile:
    """Open the file at `path`, or make it if `device` is given. For one thread; any number of processes.

    Args:
        device: name of the device that it is of.
        max_bytes: bound that a new file gets.
        secret: of the device; the frames of the file are sealed with it, if they are not yet.
        wait_seconds: for another process that writes.

    Attributes:
        seal: of its frames, None if they lie in the clear.

    Raises:
        EdgeError: there is no file, it is of another device or program or a newer version, it is damaged, or it cannot
            be written; it is sealed, and no secret is given or another one. It is left as it was.
    """

    def __init__(
        self, path: Path, device: str | None, max_bytes: int, secret: bytes | None = None, wait_seconds: float = WAIT
    ) -> None:
        self._wait = wait_seconds
        self.seal: SpoolSeal | None = None
        self._version = 0
        self._prepared = False
        self._path, self._reserve = path, path.with_name(f"{path.name}-reserve")
        if device is not None:
            check_device(device)
        elif not path.exists():
            raise EdgeError(f"there is no spool {path}; make one with: edge-stscq capture --spool {path}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as error:
            raise EdgeError(f"cannot open the spool {path}: {error.strerror}; choose another file") from None
        self._inode = self._found()
        self._db = self._connect()
        try:
            self.with_reserve(lambda db: self._prepare(db, device, max_bytes))
            self._open_seal(secret)
            self._version = _VERSION if self.seal is None else _SEALED_VERSION
        except EdgeError:
            self.close()
            raise
        self._lay_reserve()

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, timeout=self._wait, isolation_level=None)
        db.text_factory = lambda data: data.decode(errors="replace")  # a BLOB may be one by damage
        return db

    def _prepare(self, db: sqlite3.Connection, device: str | None, max_bytes: int) -> None:
        found = read_signature(db)
        if device is not None and found.blank:
            for statement in (_FACES, *_FRAMES, _REFUSED, _STATE):
                db.execute(statement)
            db.execute("INSERT INTO state (device, max_bytes) VALUES (?, ?)", (device, max_bytes))
            self._begin(db, device)
        elif found.application_id != _APPLICATION_ID:
            raise EdgeError(f"{self._path} is not a spool; choose another file")
        elif found.version in (1, 2):
            for statement in (*(_FROM_VERSION_1 if found.version == 1 else ()), *_FROM_VERSION_2):
                db.execute(statement)
            self._begin(db, db.execute("SELECT device FROM state").fetchone()[0])
        elif found.version not in (_VERSION, _SEALED_VERSION):
            version = f"{self._path} is of spool version {found.version}"
            raise EdgeError(f"{version}, this program's is {_SEALED_VERSION}; upgrade edge-stscq")
        query = "SELECT device, key, seal FROM state WHERE typeof(device) = 'text' AND typeof(key) = 'blob'"
        owner, key, seal = self.state(db, query)
        if seal != _seal(owner, key):
            raise self.damaged("its device or its stream key is not what it was")
        if device not in (None, owner):
            raise EdgeError(f"{self._path} holds faces of device {owner}; give --device {owner} or another file")

    @staticmethod
    def _begin(db: sqlite3.Connection, device: str) -> None:
        key = new_stream_key()
        db.execute(_BEGIN_STREAM, (key, _seal(device, key)))
        sign(db, _APPLICATION_ID, _VERSION)

    def _open_seal(self, secret: bytes | None) -> None:
        """Open the seal of a sealed file, or seal one that is in the clear if there is a secret."""
        with self.transaction() as db:
            sealed = read_signature(db).version == _SEALED_VERSION
            salt, verifier = self.state(db, "SELECT salt, verifier FROM sealing") if sealed else (None, None)
        if secret is None:
            if sealed:
                raise EdgeError(f"the spool {self._path} is sealed; give the device's secret with --seal file:PATH")
            return
        from edge_stscq.sealing.cipher import SALT_BYTES
        from edge_stscq.sealing.spool_seal import SpoolSeal

        if sealed:
            self.seal = SpoolSeal(secret, salt)
            if not secrets.compare_digest(self.seal.verifier, verifier):
                raise EdgeError(f"the spool {self._path} is sealed with another secret; give the one of this device")
            return
        salt = secrets.token_bytes(SALT_BYTES)
        seal = SpoolSeal(secret, salt)
        self.with_reserve(lambda db: self._seal_frames(db, seal, salt))
        self.seal = seal
        self.vacuum()

    def _seal_frames(self, db: sqlite3.Connection, seal: "SpoolSeal", salt: bytes) -> None:
        """Seal all frames of a file that is in the clear, in one transaction; leases end, and may be taken again."""
        db.execute(_SEALING)
        db.execute("INSERT INTO sealing VALUES (?, ?)", (salt, seal.verifier))
        (key,) = self.state(db, "SELECT key FROM state")
        stream = stream_id(key)
        for table in ("basics", "further"):
            query = f"SELECT sequence, captured, frame FROM {table} JOIN faces USING (sequence) WHERE sequence > ?"
            last = -1
            while rows := db.execute(f"{query} ORDER BY sequence LIMIT {_BUNDLE}", (last,)).fetchall():
                sealed = [
                    (seal.seal(frame, stream, number, captured, table), number) for number, captured, frame in rows
                ]
                db.executemany(f"UPDATE {table} SET frame = ? WHERE sequence = ?", sealed)
                last = rows[-1][0]
        sign(db, _APPLICATION_ID, _SEALED_VERSION)

    @staticmethod
    def used(db: sqlite3.Connection) -> int:
        """Bytes of the pages that are not free."""
        pages, free, size = (
            db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def state(self, db: sqlite3.Connection, query: str, values: tuple[object, ...] = ()) -> tuple[Any, ...]:
        """The row that a query about the state finds; of a damaged file, there may be none."""
        rows: list[tuple[Any, ...]] = db.execute(query, values).fetchall()
        if not rows:
            raise self.damaged("its state is lost")
        return rows[0]

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
            SpoolUnavailableError: the disk is full, or another process writes for longer than is waited.
            EdgeError: the file is damaged or was replaced.
        """
        self._check_in_place()
        with self._named_errors():
            if not self._prepared:
                set_pragmas(self._db, _PRAGMAS, self._wait)
                self._prepared = True
            with immediate_transaction(self._db) as db:
                if self._version and read_version(db) != self._version:
                    raise EdgeError(f"the spool {self._path} was sealed meanwhile; start this again with --seal")
                yield db
        self._check_in_place()

    def with_reserve(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """The result of `work`, which frees room, in one transaction; where the disk is full, the reserve gives room.

        Raises:
            EdgeError: as `transaction`.
        """
        try:
            with self.transaction() as db:
                return work(db)
        except FullDiskError:
            if not self._reserve.exists():
                raise
            self._reserve.unlink(missing_ok=True)
        with self.transaction() as db:
            return work(db)

    def vacuum(self) -> None:
        """Give the room of deleted faces back to the disk, and leave none of their bytes in the log.

        Raises:
            EdgeError: another process reads the file all the time, and the bytes are still in the log.
        """
        with suppress(FullDiskError), self._named_errors():  # what is deleted is overwritten where it was
            self._db.execute("VACUUM")
        with self._named_errors():
            (busy, *_) = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise EdgeError(
                f"{self._path}: the faces are removed, but their bytes stay in its -wal file while another process "
                "reads the spool; end that one and run this again"
            )
        self._lay_reserve()

    def _lay_reserve(self) -> None:
        """Put the reserve back where there is room for it and as much again."""
        with suppress(OSError):
            if self._reserve.exists() or _free_bytes(self._path) < 2 * RESERVE:
                return
            with open(os.open(self._reserve, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(bytes(RESERVE))

    def _found(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _check_in_place(self) -> None:
        """Refuse to go on with a file that nobody finds under its name any more."""
        if self._found() != self._inode:
            raise EdgeError(f"the spool {self._path} was replaced or removed while it was open; start this again")

    def close(self) -> None:
        self._db.close()

    def damaged(self, reason: str) -> EdgeError:
        """The error of a file that cannot be read as it is."""
        line = " ".join(reason.split())[:_LONGEST_REASON]
        return EdgeError(
            f"the spool {self._path} is damaged ({line}) and left as it is; move it and its -wal file away, "
            "try `sqlite3 FILE .recover` on them, and go on with a new spool"
        )

    def _is_full(self, error: sqlite3.Error) -> bool:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN")):  # a file beside it that did not find room
            with suppress(OSError):
                return _free_bytes(self._path) < RESERVE
        return name == "SQLITE_FULL"

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except UnicodeDecodeError as error:  # of a message about a table whose definition is damaged
            raise self.damaged(str(error)) from None
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorname", "").startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
                raise self.damaged(str(error)) from None
            reason = " ".join(str(error).split())
            if getattr(error, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
                raise SpoolUnavailableError(
                    f"another process holds the spool {self._path} ({reason}); wait for it, or end it"
                ) from None
            if self._is_full(error):
                raise FullDiskError(f"the disk of the spool {self._path} is full ({reason}); make room on it") from None
            raise EdgeError(f"cannot use the spool {self._path} now: {reason}; check the disk and try again") from None


def _free_bytes(path: Path) -> int:
    found = os.statvfs(path.parent)
    return found.f_bavail * found.f_frsize


def _seal(device: str, key: bytes) -> int:
    return zlib.crc32(device.encode() + b"\n" + key)
