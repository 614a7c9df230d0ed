"""The key file of a sealed store: a random data key for each face, name and photograph, wrapped by a master key.

It is a SQLite file of mode 0600 in which what is deleted is overwritten. It lies apart from the store, and no backup of
the store holds it: a face whose key is deleted here can be read from no copy of the store, however old.

The master key follows from a secret and a salt that the file holds. A rotation wraps every data key anew under a fresh
one, a bundle at a time; while it is under way, and after it was cut off, nothing but the rotation opens the file, and
whoever had it open reads and writes nothing more.
"""

import secrets
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, tuple_, update

from edge_stscq._progress import Progress, no_progress
from edge_stscq.errors import EdgeError
from edge_stscq.sealing.cipher import SALT_BYTES, Cipher, UnreadableError, derived, new_key
from edge_stscq.server.sealing.tables import LAYOUT, keys, masters, state
from edge_stscq.server.storage.database import Database, StoreError, store_url
from edge_stscq.server.storage.erasure import chunks
from edge_stscq.server.storage.face_store import FaceName
from edge_stscq.stream.envelope import ID_BYTES

FILE_BYTES = 16
BUNDLE = 2000
"""Keys that one transaction of a rotation wraps anew."""
_SPARSE = 4
"""Numbers in a span, for each that is asked for, from which on they are asked for one by one."""
_NAME = struct.Struct("<q")
_INSERT = "INSERT OR IGNORE INTO keys (stream, sequence, master, wrapped) VALUES (?, ?, ?, ?)"
_DELETE = "DELETE FROM keys WHERE stream = ? AND sequence = ?"
_REPLACE = "UPDATE keys SET master = ?, wrapped = ? WHERE stream = ? AND sequence = ?"
_SPAN = "SELECT sequence, master, wrapped FROM keys WHERE stream = ? AND sequence BETWEEN ? AND ?"


class KeyFile:
    """Open the key file at `path`; safe to call from many threads and processes.

    Args:
        secret: that its master key follows from.

    Attributes:
        id: 16 bytes; the store that hangs on it has them, too.

    Raises:
        EdgeError: the file is missing, others can read it, it hangs on another secret, or a rotation was cut off.

    Example:
        >>> keys = KeyFile.create(Path("keys.db"), read_secret("file:store.secret"))
        >>> cipher = keys.issue([name])[name]
    """

    def __init__(self, path: Path, secret: bytes) -> None:
        self.path = path
        if not path.exists():
            raise EdgeError(
                f"there is no key file {path}, without which nothing can be read; give it with --seal-keys, or put a "
                "copy back: edge-stscq store restore-keys COPY"
            )
        self._database = Database(store_url(path), LAYOUT)
        try:
            with self._database.read() as db:
                found = db.execute(select(masters).order_by(masters.c.id)).all()
                (self.id,) = db.execute(select(state.c.file)).one()
            if len(found) > 1:
                raise EdgeError(f"a rotation of {path} was cut off; finish it: edge-stscq store rotate, as before")
            self._master_id, salt, verifier, _ = found[0]
            self._master = master_key(secret, salt, verifier, path)
        except StoreError as error:
            self.close()
            raise EdgeError(
                f"{path} cannot be read: {error}; put a copy back: edge-stscq store restore-keys COPY"
            ) from None
        except BaseException:
            self.close()
            raise

    @classmethod
    def create(cls, path: Path, secret: bytes) -> "KeyFile":
        """A new, empty key file.

        Raises:
            EdgeError: the file exists already or cannot be written.
        """
        if path.exists():
            raise EdgeError(f"{path} exists; choose another --seal-keys")
        database = Database(store_url(path), LAYOUT)
        try:
            with database.write() as db:
                _add_master(db, 1, secret)
                db.execute(insert(state), {"id": 1, "file": secrets.token_bytes(FILE_BYTES), "revision": 0})
        finally:
            database.close()
        return cls(path, secret)

    def __len__(self) -> int:
        with self._database.read() as db:
            return int(db.execute(select(func.count()).select_from(keys)).scalar_one())

    def find(self, names: Iterable[FaceName]) -> dict[FaceName, Cipher]:
        """Data keys of the faces that have one.

        Raises:
            StoreError: the file cannot be used.
        """
        with self._database.read() as db:
            return self._found(db, names)

    def issue(self, names: Iterable[FaceName]) -> dict[FaceName, Cipher]:
        """Data keys of all faces, fresh ones for those that have none; durable when this returns.

        Raises:
            StoreError: the file cannot be used.
        """
        with self._database.write() as db:
            self._require_current(db.execute(select(func.max(masters.c.id))).scalar_one())
            names = dict.fromkeys(names)
            found, rows = self._found(db, names), []
            for name in names:
                if name not in found:
                    key = new_key()
                    found[name] = Cipher(key)
                    rows.append((name.stream, name.number, self._master_id, self._master.seal(key, about(name))))
            if rows:
                db.exec_driver_sql(_INSERT, rows)
        return found

    def numbers(self, stream: bytes) -> list[int]:
        """Numbers under which a stream has keys, in order."""
        with self._database.read() as db:
            query = select(keys.c.sequence).where(keys.c.stream == stream).order_by(keys.c.sequence)
            return list(db.execute(query).scalars())

    def forget(self, names: Sequence[FaceName], revision: int | None = None) -> None:
        """Delete keys.

        Args:
            revision: all faces erased up to this one are among them, or were before.

        Raises:
            StoreError: the file cannot be used.
        """
        with self._database.write() as db:
            if names:
                db.exec_driver_sql(_DELETE, [tuple(name) for name in names])
            if revision is not None:
                db.execute(update(state), {"revision": revision})

    @property
    def revision(self) -> int:
        """Of the last erasure that has taken its key."""
        with self._database.read() as db:
            return int(db.execute(select(state.c.revision)).scalar_one())

    def scrub(self) -> None:
        """Leave nothing of deleted keys in the log.

        Raises:
            StoreError: somebody reads the file all the time.
        """
        self._database.scrub(rewrite=False, table=keys.name)

    def close(self) -> None:
        self._database.close()

    def _found(self, db: Connection, names: Iterable[FaceName]) -> dict[FaceName, Cipher]:
        numbers: dict[bytes, set[int]] = {}
        for stream, number in names:
            numbers.setdefault(stream, set()).add(number)
        found: dict[FaceName, Cipher] = {}
        for stream, wanted in numbers.items():
            for number, master, wrapped in _wrapped(db, stream, wanted):
                self._require_current(master)
                name = FaceName(stream, number)
                with suppress(EdgeError):  # a damaged key is none
                    found[name] = Cipher(self._master.open(wrapped, about(name)))
        return found

    def _require_current(self, master: int) -> None:
        if master != self._master_id:
            raise StoreError(f"the keys in {self.path} were rotated; start this again with the new secret")


def _wrapped(db: Connection, stream: bytes, wanted: set[int]) -> Iterator[tuple[int, int, bytes]]:
    """Number, master and wrapped key of each face of a stream that has a key."""
    low, high = min(wanted), max(wanted)
    if high - low < _SPARSE * len(wanted):
        rows = db.exec_driver_sql(_SPAN, (stream, low, high))
        yield from ((number, master, wrapped) for number, master, wrapped in rows if number in wanted)
        return
    for some in chunks(sorted(wanted)):
        query = select(keys.c.sequence, keys.c.master, keys.c.wrapped).where(keys.c.stream == stream)
        yield from (
            (number, master, wrapped) for number, master, wrapped in db.execute(query.where(keys.c.sequence.in_(some)))
        )


def about(name: FaceName) -> bytes:
    """Name of a face, as its wrapped key is sealed about it."""
    return b"key of\n" + name.stream + _NAME.pack(name.number)


def master_key(secret: bytes, salt: bytes, verifier: bytes, path: Path) -> Cipher:
    """The master key that follows from a secret.

    Raises:
        EdgeError: the secret is another one.
    """
    master, right = derived(secret, salt, b"master")
    if not secrets.compare_digest(right, verifier):
        raise EdgeError(f"{path} hangs on another secret; give the one that it was made with, or rotated to")
    return master


def _add_master(db: Connection, number: int, secret: bytes) -> Cipher:
    salt = secrets.token_bytes(SALT_BYTES)
    master, verifier = derived(secret, salt, b"master")
    db.execute(insert(masters), {"id": number, "salt": salt, "verifier": verifier, "made": time.time()})
    return master


def rotate(path: Path, old: bytes, new: bytes, progress: Progress = no_progress) -> int:
    """Wrap every data key anew, under a master key that follows from another secret.

    Cut off, it goes on where it was when it is run again with the same two secrets; nobody else opens the file before.

    Args:
        progress: told how many keys were wrapped.

    Returns:
        How many that were.

    Raises:
        EdgeError: a secret is not the file's, both are one, or a key is damaged.
        StoreError: the file cannot be used.
    """
    if old == new:
        raise EdgeError("the new secret is the old one; make another with: openssl rand -hex 32")
    if not path.exists():
        raise EdgeError(f"there is no key file {path}; give it with --seal-keys")
    database, count = Database(store_url(path), LAYOUT), 0
    try:
        with database.write() as db:
            found = db.execute(select(masters).order_by(masters.c.id)).all()
            before = master_key(old, found[0].salt, found[0].verifier, path)
            if len(found) > 1:
                after, after_id = master_key(new, found[1].salt, found[1].verifier, path), found[1].id
            else:
                after_id = found[0].id + 1
                after = _add_master(db, after_id, new)
        last = b"", -1
        while True:
            with database.write() as db:
                query = select(keys.c.stream, keys.c.sequence, keys.c.wrapped).where(keys.c.master != after_id)
                query = query.where(tuple_(keys.c.stream, keys.c.sequence) > tuple_(*last))
                rows = db.execute(query.order_by(keys.c.stream, keys.c.sequence).limit(BUNDLE)).all()
                if not rows:
                    db.execute(delete(masters).where(masters.c.id != after_id))
                    break
                db.exec_driver_sql(_REPLACE, [_rewrapped(row, before, after, after_id, path) for row in rows])
            last = rows[-1].stream, rows[-1].sequence
            count += len(rows)
            progress(len(rows))
        database.scrub(rewrite=True, table=keys.name)
    finally:
        database.close()
    return count


def _rewrapped(row: Any, before: Cipher, after: Cipher, after_id: int, path: Path) -> tuple[object, ...]:
    name = FaceName(row.stream, row.sequence)
    try:
        key = before.open(row.wrapped, about(name))
    except UnreadableError:
        kind = f"face {name.stream.hex()}-" if len(name.stream) == ID_BYTES else f"{name.stream.decode()} "
        raise EdgeError(
            f"the key of {kind}{name.number} is damaged; put a copy back with `edge-stscq store restore-keys`, and "
            "rotate that"
        ) from None
    return after_id, after.seal(key, about(name)), name.stream, name.number
