"""Bearer tokens and their scopes, in a SQLite file of their own.

A token is `stscq_<id>_<secret>`. The id is public, names the token in lists and in the audit log, and finds its row;
the secret is 256 random bits. Only the SHA-256 of the whole token is kept. A fast hash is right here: slow ones protect
passwords, which can be guessed, and nobody guesses 256 random bits at any speed. Hashes are compared in constant time.

The file is apart from the store of faces, so that it can be made before the first start and backed up without them.
The server looks at its date at every request, so that what `edge-stscq token revoke` writes holds from the next request
on, also where the file is replaced by a copy from another machine. The file itself is read by `refresh` alone, which an
event loop leaves to a thread.
"""

import hashlib
import hmac
import re
import secrets
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, select, text

from edge_stscq._files import refuse_shared_file
from edge_stscq.errors import EdgeError
from edge_stscq.protocol import DEVICE_NAME
from edge_stscq.server.auth.scope import Scope
from edge_stscq.server.auth.token_tables import LAYOUT, tokens
from edge_stscq.server.storage.database import Database, StoreError, store_url

ANY_DEVICE = "*"
SECRET_BYTES = 32

_TOKEN = re.compile(r"stscq_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")
_SETTLED_NS = 100_000_000
"""A file that was changed so shortly before it was read may change again without showing another time."""
_COLUMNS = (
    tokens.c.id, tokens.c.device, tokens.c.scopes, tokens.c.created, tokens.c.used, tokens.c.revoked, tokens.c.owner,
    tokens.c.expires,
)  # fmt: skip
_OWNER = re.compile(r"[^\x00-\x1f\x7f]{1,100}")


@dataclass(frozen=True, slots=True)
class Token:
    """All that is known of a token.

    Attributes:
        id: 12 hexadecimal digits.
        device: the only device whose faces it may send, see or match; `*` is every device.
        created, revoked: UTC, ISO 8601 to the second; `revoked` is None while it is valid.
        used: day (UTC) of its last use, None before the first.
        owner: person, or thing, that holds it; its device if nobody was named.
        expires: as `created`; None if it holds until it is revoked.
    """

    id: str
    device: str
    scopes: tuple[Scope, ...]
    created: str
    used: str | None
    revoked: str | None
    owner: str
    expires: str | None

    @property
    def is_valid(self) -> bool:
        """True if it is neither revoked nor expired."""
        return self.revoked is None and (self.expires is None or self.expires > _now())


class TokenStore:
    """Open the tokens at `path`; safe to call from many threads and beside other processes.

    Every method but `close` raises `StoreError` while the file cannot be used.

    Args:
        create: make the file, readable by its owner alone, if it is absent.

    Raises:
        EdgeError: the file is absent, holds something else, is of a newer version, or cannot be read; or others than
            its owner can read or write it.
    """

    def __init__(self, path: Path, *, create: bool) -> None:
        self.path, self._lock = path, threading.Lock()
        if not create and not path.exists():
            raise EdgeError(f"there are no tokens at {path}; make one with: {how_to_create(path)}")
        refuse_shared_file(path, "the tokens")
        self._database = Database(store_url(path), LAYOUT)
        self._known: dict[str, tuple[bytes, Token]] = {}
        self._version: tuple[int, ...] | None = None

    def refresh(self) -> None:
        """Read the file, if it was changed or replaced."""
        with self._lock:
            now, version, changed = time.time_ns(), *self._file_version()
            if version != self._version:
                self._database.close()  # a connection would hold on to the file that was replaced
                with self._database.read() as db:
                    rows = db.execute(select(tokens.c.hash, *_COLUMNS).order_by(text("rowid"))).all()
                self._known = {token_id: (digest, _token(token_id, *rest)) for digest, token_id, *rest in rows}
                self._version = version if now - changed > _SETTLED_NS else None

    def _current(self) -> dict[str, tuple[bytes, Token]]:
        """Hash and token by id, oldest first."""
        self.refresh()
        return self._known

    def _file_version(self) -> tuple[tuple[int, ...], int]:
        """Identity of the file's present state, and its last change in nanoseconds since 1970."""
        try:
            found = self.path.stat()
        except OSError as error:
            raise StoreError(f"the tokens at {self.path} are gone: {error.strerror}") from None
        return (found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns), found.st_ctime_ns

    def create(
        self, device: str, scopes: Iterable[Scope], owner: str | None = None, lifetime: timedelta | None = None
    ) -> tuple[Token, str]:
        """Make a token; also its text, which is kept nowhere and cannot be shown again.

        Args:
            owner: who holds it; the device if None.
            lifetime: until it expires; None is for ever.

        Raises:
            EdgeError: `device` cannot name a device, `owner` nobody, or there is no scope.
        """
        if device != ANY_DEVICE and not re.fullmatch(DEVICE_NAME, device):
            raise EdgeError(
                f"{device!r} cannot name a device; use 1 to 64 of A-Z a-z 0-9 . _ - (or * for every device)"
            )
        wanted = set(scopes)
        if not wanted:
            raise EdgeError("a token without a scope opens nothing; give --scope send, read, match or another")
        if owner is not None and not _OWNER.fullmatch(owner):
            raise EdgeError(f"{owner!r} cannot name an owner; use 1 to 100 characters without line breaks")
        token = Token(
            secrets.token_hex(6), device, tuple(scope for scope in Scope if scope in wanted), _now(), None, None,
            owner or device, None if lifetime is None else _now(lifetime),
        )  # fmt: skip
        with self._database.write() as db:
            plain = _insert(db, token)
        return token, plain

    def rotate(self, token_id: str, overlap: timedelta) -> tuple[Token, str]:
        """Make a token in the place of another: of its device, scopes, owner and lifetime; also its text.

        Args:
            overlap: for which the earlier one still holds, if it does not expire before.

        Raises:
            EdgeError: there is no such token, or it is revoked or expired.
        """
        with self._database.write() as db:
            found = db.execute(select(*_COLUMNS).where(tokens.c.id == token_id)).first()
            if found is None:
                raise self._unknown(token_id)
            old, now = _token(*found), _now()
            if not old.is_valid:
                raise EdgeError(f"token {token_id} is revoked or expired; make another with: edge-stscq token create")
            expires = None
            if old.expires is not None:
                expires = _now(datetime.fromisoformat(old.expires) - datetime.fromisoformat(old.created))
            token = Token(secrets.token_hex(6), old.device, old.scopes, now, None, None, old.owner, expires)
            plain, end = _insert(db, token), _now(overlap)
            db.execute(
                tokens.update().where(tokens.c.id == token_id).values(expires=min(end, old.expires or end))
            )
        return token, plain

    def find(self, plain: str) -> Token | None:
        """The valid token that `plain` is, or None."""
        self.refresh()
        return self.known(plain)

    def known(self, plain: str) -> Token | None:
        """The valid token that `plain` was when the file was read, or None; without a look at it."""
        match = _TOKEN.fullmatch(plain)
        kept, token = self._known.get(match[1] if match else "", (bytes(hashlib.sha256().digest_size), None))
        if not hmac.compare_digest(_digest(plain), kept) or token is None or not token.is_valid:
            return None
        return token

    def note_use(self, token: Token) -> None:
        """Write down the day of the use; a file that is busy or read-only must not lock a valid token out."""
        with suppress(StoreError), self._database.write() as db:
            db.execute(tokens.update().where(tokens.c.id == token.id).values(used=today()))

    def revoke(self, token_id: str) -> Token:
        """Make a token invalid for good; one that was revoked keeps its first date.

        Raises:
            EdgeError: there is no such token.
        """
        with self._database.write() as db:
            changed = tokens.update().where(tokens.c.id == token_id)
            db.execute(changed.values(revoked=func.coalesce(tokens.c.revoked, _now())))
            found = db.execute(select(*_COLUMNS).where(tokens.c.id == token_id)).first()
        if found is None:
            raise self._unknown(token_id)
        return _token(*found)

    def _unknown(self, token_id: str) -> EdgeError:
        return EdgeError(f"there is no token {token_id} in {self.path}; see: edge-stscq token list")

    def all(self) -> list[Token]:
        """Every token ever made, oldest first."""
        return [token for _, token in self._current().values()]

    def any_made(self) -> bool:
        """True if a token was ever made here, revoked ones among them."""
        return bool(self._current())

    def close(self) -> None:
        self._database.close()


def how_to_create(path: Path) -> str:
    """The command that makes a token at `path`."""
    return f"edge-stscq token create --tokens {path} --device NAME"


def today() -> str:
    """UTC, ISO 8601."""
    return _now()[:10]


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _now(later: timedelta = timedelta(0)) -> str:
    return (datetime.now(UTC) + later).isoformat(timespec="seconds")


def _insert(db: Connection, token: Token) -> str:
    """Keep a token, and give its text."""
    plain = f"stscq_{token.id}_{secrets.token_urlsafe(SECRET_BYTES)}"
    values = {"id": token.id, "hash": _digest(plain), "device": token.device, "created": token.created}
    more = {"scopes": " ".join(token.scopes), "owner": token.owner, "expires": token.expires}
    db.execute(tokens.insert().values(values | more))
    return plain


def _token(token_id: str, device: str, scopes: str, *rest: Any) -> Token:
    created, used, revoked, owner, expires = rest
    held = tuple(map(Scope, scopes.split()))
    return Token(token_id, device, held, created, used, revoked, owner or device, expires)
