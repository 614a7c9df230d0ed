"""Key store: the salt of every record, in a file of its own, apart from the templates.

Without its salt a record's key cannot be made again, by whoever has the secret either: revoking is deleting the salt.
The file is SQLite's, of mode 0600. What is deleted is overwritten in it (`secure_delete`), and so is the journal, which
held it for the time of the change. A file system or disk that writes elsewhere (snapshots, flash) keeps what it keeps:
encrypt it, and count backups of this file.

Every call opens the file anew, so that threads, forks and processes share nothing but the file and its lock.
"""

import hmac
import os
import re
import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from edge_stscq._secrets import check_private
from edge_stscq._sqlite import FAILURES, immediate_transaction, read_signature, set_pragmas, sign
from edge_stscq.errors import EdgeError
from edge_stscq.privacy.keys import SALT_BYTES, RecordKey, hkdf

LOCK_SECONDS = 10
MAX_NAME = 200
_APPLICATION_ID = int.from_bytes(b"KEYS")
_VERSION = 1
_CHECK = b"edge-stscq key store check"
_EARLY = re.compile(rb'\{\s*"format"')
"""Beginning of the JSON in which salts were kept at first."""
_PRAGMAS = ("journal_mode=PERSIST", "synchronous=EXTRA", "fullfsync=ON", "secure_delete=ON", "temp_store=MEMORY")
_TABLES = (
    "CREATE TABLE owner (id BLOB NOT NULL, secret_check BLOB NOT NULL) STRICT",
    f"""CREATE TABLE salts (
        number INTEGER PRIMARY KEY, record TEXT NOT NULL UNIQUE,
        salt BLOB NOT NULL CHECK (length(salt) = {SALT_BYTES})
    ) STRICT""",
)
_OVERWRITTEN = 1 << 20
"""Zeros written to the journal at a time."""


class KeyStore:
    """Keys of records by their names, for threads and processes at once; 100,000 records are few.

    A record's key hangs on its name as well: a salt that was put under another name gives a key of another id.

    Args:
        path: of the file; `create` makes it.
        secret: that all of its keys hang on.

    Raises:
        EdgeError: the file is missing or damaged, others can read it, or it hangs on another secret.

    Example:
        >>> keys = KeyStore.create(Path("matcher.keys"), read_secret("file:matcher.secret"))
        >>> template = scheme.enroll(embedding, keys.issue("door-1-42"))
        >>> keys.revoke("door-1-42")
    """

    def __init__(self, path: Path, secret: bytes) -> None:
        self.path, self._secret = path, secret
        with self._opened():
            pass

    @classmethod
    def create(cls, path: Path, secret: bytes) -> "KeyStore":
        """A new, empty key store.

        Raises:
            EdgeError: the file exists already or cannot be written.
        """
        with _locked(path):
            if path.exists():
                raise EdgeError(f"{path} exists; open it, or choose another name for a new key store")
            made = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
            try:
                _make(made, secret)
                made.rename(path)
            except (OSError, *FAILURES) as error:
                raise EdgeError(f"cannot write {path}: {error}; check the folder and its free space") from error
            finally:
                for left in (made, _journal(made)):
                    left.unlink(missing_ok=True)
        return cls(path, secret)

    def __contains__(self, record: str) -> bool:
        with self._opened() as db:
            return _salt(db, record) is not None

    def __len__(self) -> int:
        with self._opened() as db:
            count: int = db.execute("SELECT count(*) FROM salts").fetchone()[0]
        return count

    def key(self, record: str) -> RecordKey:
        """The key of a record.

        Raises:
            EdgeError: it has none, or not any more.
        """
        with self._opened() as db:
            return self.derive(record, _require(db, record))

    def keys(self) -> dict[str, RecordKey]:
        """All keys by record in the order they were issued, for a gallery."""
        with self._opened() as db:
            rows = db.execute("SELECT record, salt FROM salts ORDER BY number").fetchall()
        return {record: self.derive(record, salt) for record, salt in rows}

    def salts(self) -> dict[str, bytes]:
        """Salts by record, as `derive` takes them: whoever holds many keys makes those that are new alone."""
        with self._opened() as db:
            return dict(db.execute("SELECT record, salt FROM salts ORDER BY number").fetchall())

    def derive(self, record: str, salt: bytes) -> RecordKey:
        """The key that a record has with this salt."""
        return RecordKey.derive(self._secret, salt, record)

    def issue(self, record: str) -> RecordKey:
        """A fresh key for a new record.

        Raises:
            EdgeError: the record has a key already, or is no name of 1 to 200 printable characters.
        """
        return self.issue_all([record])[record]

    @contextmanager
    def issuing(self, record: str) -> Iterator[RecordKey]:
        """A fresh key for a new record, written if the block ends without an error: its template is in its place then.

        Raises:
            EdgeError: as `issue`.
        """
        salt = secrets.token_bytes(SALT_BYTES)
        with self._opened() as db:
            _require_free(db, record)
        yield self.derive(record, salt)
        with self._changed() as db:
            _require_free(db, record)
            db.execute("INSERT INTO salts (record, salt) VALUES (?, ?)", (record, salt))

    @contextmanager
    def renewing(self, record: str) -> Iterator[RecordKey]:
        """As `renew`; the key of before is gone if the block ends without an error, and stays otherwise.

        Raises:
            EdgeError: it has none.
        """
        salt = secrets.token_bytes(SALT_BYTES)
        with self._opened() as db:
            _require(db, record)
        yield self.derive(record, salt)
        with self._changed() as db:
            _require(db, record)
            db.execute("UPDATE salts SET salt = ? WHERE record = ?", (salt, record))

    def issue_all(self, records: Iterable[str]) -> dict[str, RecordKey]:
        """Fresh keys for many new records, in one transaction: all of them, or none.

        Raises:
            EdgeError: as `issue`.
        """
        salts: dict[str, bytes] = {}
        with self._changed() as db:
            for record in records:
                _require_free(db, record)
                salts[record] = secrets.token_bytes(SALT_BYTES)
                db.execute("INSERT INTO salts (record, salt) VALUES (?, ?)", (record, salts[record]))
        return {record: self.derive(record, salt) for record, salt in salts.items()}

    def renew(self, record: str) -> RecordKey:
        """A fresh key in place of a record's; its old templates match no more, so enroll the face under the new one.

        Raises:
            EdgeError: it has none.
        """
        with self.renewing(record) as key:
            return key

    def revoke(self, record: str) -> None:
        """Delete a record's salt; no template under its key matches again.

        Raises:
            EdgeError: it has none.
        """
        with self._changed() as db:
            _require(db, record)
            db.execute("DELETE FROM salts WHERE record = ?", (record,))

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """The file, checked to be private, a key store, and of this secret."""
        check_private(self.path, "key")
        try:
            with closing(_connect(self.path)) as db:
                self._check(db)
                yield db
        except FAILURES as error:
            raise self._failed(error) from error

    @contextmanager
    def _changed(self) -> Iterator[sqlite3.Connection]:
        """A transaction; what it removed is gone from the journal, too, when it returns."""
        with _locked(self.path), self._opened() as db:
            try:
                with immediate_transaction(db):
                    yield db
            finally:
                _overwrite(_journal(self.path))

    def _check(self, db: sqlite3.Connection) -> None:
        signature = read_signature(db)
        if (signature.application_id, signature.version) != (_APPLICATION_ID, _VERSION):
            raise self._unknown()
        rows = db.execute("SELECT id, secret_check FROM owner").fetchall()
        if len(rows) != 1:
            raise self._unknown()
        name, check = rows[0]
        if not hmac.compare_digest(check, _check(self._secret, name)):
            raise EdgeError(f"{self.path} hangs on another secret; give the one that it was made with")

    def _unknown(self) -> EdgeError:
        with suppress(OSError), self.path.open("rb") as file:
            if _EARLY.match(file.read(64)):
                return EdgeError(
                    f"{self.path} is a key store of an early version, whose templates no version after it matches; "
                    "remove both, and enroll again with a new --keys"
                )
        return EdgeError(f"{self.path} is no key store of this version; restore it from its own backup")

    def _failed(self, error: Exception) -> EdgeError:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return _held(self.path)
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
            return EdgeError(f"cannot use {self.path}: {error}; check the folder, its rights and its free space")
        return self._unknown()


def _make(path: Path, secret: bytes) -> None:
    """Write an empty key store."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    name = secrets.token_bytes(SALT_BYTES)
    with closing(_connect(path)) as db, immediate_transaction(db):
        for table in _TABLES:
            db.execute(table)
        db.execute("INSERT INTO owner VALUES (?, ?)", (name, _check(secret, name)))
        sign(db, _APPLICATION_ID, _VERSION)


def _connect(path: Path) -> sqlite3.Connection:
    address = f"{path.absolute().as_uri()}?mode=rw"
    db = sqlite3.connect(address, uri=True, isolation_level=None, timeout=LOCK_SECONDS)
    try:
        set_pragmas(db, _PRAGMAS, LOCK_SECONDS)
    except BaseException:
        db.close()
        raise
    return db


def _journal(path: Path) -> Path:
    return path.with_name(f"{path.name}-journal")


def _overwrite(path: Path) -> None:
    """Zeros in place of a journal, which holds pages as they were; SQLite has ended it when it begins with zeros."""
    with suppress(FileNotFoundError), path.open("r+b") as file:
        if any(file.read(8)):
            return  # a change that a killed process left; the next one to open the file takes it back
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        for start in range(0, size, _OVERWRITTEN):
            file.write(bytes(min(_OVERWRITTEN, size - start)))
        file.flush()
        os.fsync(file.fileno())
        file.truncate(0)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the key store's lock, a file beside it."""
    if not path.parent.is_dir():
        raise EdgeError(f"cannot write {path}: its folder does not exist; make it, open to its owner alone")
    try:
        with FileLock(path.with_name(f".{path.name}.lock"), LOCK_SECONDS):
            yield
    except Timeout:
        raise _held(path) from None
    except OSError as error:
        raise EdgeError(f"cannot write beside {path}: {error.strerror}; check the folder and its rights") from error


def _held(path: Path) -> EdgeError:
    return EdgeError(f"another process has held {path} for {LOCK_SECONDS} s; try again when it is done")


def _salt(db: sqlite3.Connection, record: str) -> bytes | None:
    if not record.isprintable():  # such as half a surrogate pair, which SQLite does not take
        return None
    row = db.execute("SELECT salt FROM salts WHERE record = ?", (record,)).fetchone()
    return None if row is None else bytes(row[0])


def _require_free(db: sqlite3.Connection, record: str) -> None:
    if not 1 <= len(record) <= MAX_NAME or not record.isprintable():
        raise EdgeError(f"a record's name has 1 to {MAX_NAME} characters, all of them printable")
    if _salt(db, record) is not None:
        raise EdgeError(f"record {record!r} has a key already; renew or revoke it")


def _require(db: sqlite3.Connection, record: str) -> bytes:
    salt = _salt(db, record)
    if salt is None:
        raise EdgeError(f"record {record!r} has no key: it was never enrolled, or it was revoked; enroll it again")
    return salt


def _check(secret: bytes, name: bytes) -> bytes:
    return hkdf(secret, name, _CHECK, 16)
