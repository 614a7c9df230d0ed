"""Bearer tokens and their scopes, in a SQLite file of their own.

A token is `stscq_<id>_<secret>`. The id is public, names the token in lists and in the audit log, and finds its row;
the secret is 256 random bits. Only the SHA-256 of the whole token is kept. A fast hash is right here: slow ones protect
passwords, which can be guessed, and nobody guesses 256 random bits at any speed. Hashes are compared in constant time.

The file is apart from the store of faces, so that it can be made before the first start and backed up without them.
The server reads it at every request: what `edge-stscq token revoke` writes holds from the next request on.
"""

import hashlib
import hmac
import os
import re
import secrets
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from edge_stscq.errors import EdgeError
from edge_stscq.protocol import DEVICE_NAME

ANY_DEVICE = "*"
SECRET_BYTES = 32

_TOKEN = re.compile(r"stscq_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")
_APPLICATION_ID = int.from_bytes(b"STSK")
_VERSION = 1
_SCHEMA = """
CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    hash BLOB NOT NULL,
    device TEXT NOT NULL,
    scopes TEXT NOT NULL,
    created TEXT NOT NULL,
    used TEXT,
    revoked TEXT
) STRICT
"""
_COLUMNS = "id, device, scopes, created, used, revoked"


class Scope(StrEnum):
    """Permission of a token. None includes another."""

    SEND = "send"
    READ = "read"
    MATCH = "match"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Token:
    """All that is known of a token.

    Attributes:
        id: 12 hexadecimal digits.
        device: the only device whose faces it may send, see or match; `*` is every device.
        created, revoked: UTC, ISO 8601 to the second; `revoked` is None while it is valid.
        used: day (UTC) of its last use, None before the first.
    """

    id: str
    device: str
    scopes: tuple[Scope, ...]
    created: str
    used: str | None
    revoked: str | None


class TokenStore:
    """Open the tokens at `path`; safe to call from many threads and beside other processes.

    Args:
        create: make the file, readable by its owner alone, if it is absent.

    Raises:
        EdgeError: the file is absent, holds something else, is of a newer version, or cannot be read.
    """

    def __init__(self, path: Path, *, create: bool) -> None:
        self.path, self._lock = path, threading.Lock()
        if not create and not path.exists():
            raise EdgeError(f"there are no tokens at {path}; make one with: {how_to_create(path)}")
        try:
            if create:
                path.parent.mkdir(parents=True, exist_ok=True)
                os.close(os.open(path, os.O_RDONLY | os.O_CREAT, 0o600))
            self._db = sqlite3.connect(path, timeout=5, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise EdgeError(f"cannot open the tokens at {path}: {error}; choose another --tokens") from None
        try:
            self._prepare()
        except sqlite3.Error as error:
            self._db.close()
            raise EdgeError(f"{path} is not usable for tokens: {error}; choose another --tokens") from None
        except EdgeError:
            self._db.close()
            raise

    def _prepare(self) -> None:
        application, version, tables = (
            self._db.execute(query).fetchone()[0]
            for query in ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_master")
        )
        if application == 0 and tables == 0:
            with self._transaction() as db:
                db.execute(_SCHEMA.replace("TABLE", "TABLE IF NOT EXISTS", 1))
                db.execute(f"PRAGMA application_id={_APPLICATION_ID}")
                db.execute(f"PRAGMA user_version={_VERSION}")
        elif application != _APPLICATION_ID:
            raise EdgeError(f"{self.path} is a database of another program; choose another --tokens")
        elif version != _VERSION:
            raise EdgeError(f"{self.path} is of token version {version}, this program's is {_VERSION}; upgrade it")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def create(self, device: str, scopes: Iterable[Scope]) -> tuple[Token, str]:
        """Make a token; also its text, which is kept nowhere and cannot be shown again.

        Raises:
            EdgeError: `device` cannot name a device, or there is no scope.
        """
        if device != ANY_DEVICE and not re.fullmatch(DEVICE_NAME, device):
            raise EdgeError(
                f"{device!r} cannot name a device; use 1 to 64 of A-Z a-z 0-9 . _ - (or * for every device)"
            )
        wanted = set(scopes)
        if not wanted:
            raise EdgeError("a token without a scope opens nothing; give --scope send, read, match or admin")
        token = Token(
            secrets.token_hex(6), device, tuple(scope for scope in Scope if scope in wanted), _now(), None, None
        )
        text = f"stscq_{token.id}_{secrets.token_urlsafe(SECRET_BYTES)}"
        row = (token.id, _digest(text), device, " ".join(token.scopes), token.created)
        with self._transaction() as db:
            db.execute("INSERT INTO tokens (id, hash, device, scopes, created) VALUES (?, ?, ?, ?, ?)", row)
        return token, text

    def find(self, text: str) -> Token | None:
        """The valid token that `text` is, or None. One look at a small file: fit for an event loop."""
        match = _TOKEN.fullmatch(text)
        with self._lock:
            query = f"SELECT hash, {_COLUMNS} FROM tokens WHERE id = ?"
            found = self._db.execute(query, (match[1] if match else "",)).fetchone()
        kept, *columns = found or (bytes(hashlib.sha256().digest_size),)
        if not hmac.compare_digest(_digest(text), kept) or found is None:
            return None
        token = _token(columns)
        return token if token.revoked is None else None

    def note_use(self, token: Token) -> None:
        """Write down the day of the use; a file that is busy or read-only must not lock a valid token out."""
        with suppress(sqlite3.OperationalError), self._transaction() as db:
            db.execute("UPDATE tokens SET used = ? WHERE id = ?", (today(), token.id))

    def revoke(self, token_id: str) -> Token:
        """Make a token invalid for good; one that was revoked keeps its first date.

        Raises:
            EdgeError: there is no such token.
        """
        with self._transaction() as db:
            db.execute("UPDATE tokens SET revoked = coalesce(revoked, ?) WHERE id = ?", (_now(), token_id))
            found = db.execute(f"SELECT {_COLUMNS} FROM tokens WHERE id = ?", (token_id,)).fetchone()
        if found is None:
            raise EdgeError(f"there is no token {token_id} in {self.path}; see: edge-stscq token list")
        return _token(found)

    def all(self) -> list[Token]:
        """Every token ever made, oldest first."""
        with self._lock:
            found = self._db.execute(f"SELECT {_COLUMNS} FROM tokens ORDER BY rowid").fetchall()
        return [_token(row) for row in found]

    def any_made(self) -> bool:
        """True if a token was ever made here, revoked ones among them."""
        with self._lock:
            return bool(self._db.execute("SELECT EXISTS (SELECT 1 FROM tokens)").fetchone()[0])

    def close(self) -> None:
        with self._lock:
            self._db.close()


def how_to_create(path: Path) -> str:
    """The command that makes a token at `path`."""
    return f"edge-stscq token create --tokens {path} --device NAME"


def today() -> str:
    """UTC, ISO 8601."""
    return _now()[:10]


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _token(row: Sequence[Any]) -> Token:
    token_id, device, scopes, *dates = row
    return Token(token_id, device, tuple(map(Scope, scopes.split())), *dates)
