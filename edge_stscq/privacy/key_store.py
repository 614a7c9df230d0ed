"""Key store: the salt of every record, in a file of its own, apart from the templates.

Without its salt a record's key cannot be made again, by whoever has the secret either: revoking is deleting the salt.
The file is JSON of mode 0600, written whole under a lock; the bytes of the one before are overwritten. A file system or
disk that writes elsewhere (snapshots, flash) keeps what it keeps: encrypt it, and count backups of this file.
"""

import hmac
import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from edge_stscq._files import write_file
from edge_stscq.errors import EdgeError
from edge_stscq.privacy.keys import SALT_BYTES, RecordKey, hkdf
from edge_stscq.privacy.secret import read_private

FORMAT = 1
LOCK_SECONDS = 10
MAX_NAME = 200
_CHECK = b"edge-stscq key store check"
Salts = dict[str, str]


class KeyStore:
    """Keys of records by their names.

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
        self._read()

    @classmethod
    def create(cls, path: Path, secret: bytes) -> "KeyStore":
        """A new, empty key store.

        Raises:
            EdgeError: the file exists already or cannot be written.
        """
        with _locked(path):
            if path.exists():
                raise EdgeError(f"{path} exists; open it, or choose another name for a new key store")
            name = secrets.token_bytes(SALT_BYTES)
            content = {"format": FORMAT, "id": name.hex(), "check": _check(secret, name).hex(), "salts": {}}
            write_file(path, _bytes(content), private=True)
        return cls(path, secret)

    def __contains__(self, record: str) -> bool:
        return record in self._read()["salts"]

    def __len__(self) -> int:
        return len(self._read()["salts"])

    def key(self, record: str) -> RecordKey:
        """The key of a record.

        Raises:
            EdgeError: it has none, or not any more.
        """
        return self._derived(record, self._read()["salts"])

    def keys(self) -> dict[str, RecordKey]:
        """All keys by record, for a gallery."""
        salts = self._read()["salts"]
        return {record: self._derived(record, salts) for record in salts}

    def issue(self, record: str) -> RecordKey:
        """A fresh key for a new record.

        Raises:
            EdgeError: the record has a key already, or is no name of 1 to 200 characters.
        """
        return self.issue_all([record])[record]

    def issue_all(self, records: list[str]) -> dict[str, RecordKey]:
        """Fresh keys for many new records, in one write: all of them, or none.

        Raises:
            EdgeError: as `issue`.
        """

        def change(salts: Salts) -> None:
            for record in records:
                if not 1 <= len(record) <= MAX_NAME:
                    raise EdgeError(f"a record's name has 1 to {MAX_NAME} characters")
                if record in salts:
                    raise EdgeError(f"record {record!r} has a key already; renew or revoke it")
                salts[record] = _new_salt()

        salts = self._change(change)
        return {record: self._derived(record, salts) for record in records}

    def renew(self, record: str) -> RecordKey:
        """A fresh key in place of a record's; its old templates match no more, so enroll the face under the new one.

        Raises:
            EdgeError: it has none.
        """

        def change(salts: Salts) -> None:
            _require(record, salts)
            salts[record] = _new_salt()

        return self._derived(record, self._change(change))

    def revoke(self, record: str) -> None:
        """Delete a record's salt; no template under its key matches again.

        Raises:
            EdgeError: it has none.
        """

        def change(salts: Salts) -> None:
            _require(record, salts)
            del salts[record]

        self._change(change)

    def _derived(self, record: str, salts: Salts) -> RecordKey:
        return RecordKey.derive(self._secret, bytes.fromhex(_require(record, salts)))

    def _read(self) -> dict[str, Any]:
        data = read_private(self.path, "key")
        try:
            content: dict[str, Any] = json.loads(data)
            name, check, salts = bytes.fromhex(content["id"]), bytes.fromhex(content["check"]), content["salts"]
            sizes = {len(bytes.fromhex(salt)) for salt in salts.values()}
            sound = content["format"] == FORMAT and sizes <= {SALT_BYTES}
        except (ValueError, KeyError, TypeError, AttributeError):
            sound = False
        if not sound:
            raise EdgeError(f"{self.path} is no key store of this version; restore it from its own backup")
        if not hmac.compare_digest(check, _check(self._secret, name)):
            raise EdgeError(f"{self.path} hangs on another secret; give the one that it was made with")
        return content

    def _change(self, change: Callable[[Salts], None]) -> Salts:
        with _locked(self.path):
            content = self._read()
            change(content["salts"])
            with self.path.open("r+b") as before:
                write_file(self.path, _bytes(content), private=True)
                before.write(bytes(os.fstat(before.fileno()).st_size))
                before.flush()
                os.fsync(before.fileno())
        salts: Salts = content["salts"]
        return salts


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the key store's lock, a file beside it."""
    if not path.parent.is_dir():
        raise EdgeError(f"cannot write {path}: its folder does not exist; make it, open to its owner alone")
    try:
        with FileLock(path.with_name(f".{path.name}.lock"), LOCK_SECONDS):
            yield
    except Timeout:
        raise EdgeError(f"another process has held {path} for {LOCK_SECONDS} s; try again when it is done") from None
    except OSError as error:
        raise EdgeError(f"cannot write beside {path}: {error.strerror}; check the folder and its rights") from error


def _require(record: str, salts: Salts) -> str:
    if record not in salts:
        raise EdgeError(f"record {record!r} has no key: it was never enrolled, or it was revoked; enroll it again")
    return salts[record]


def _new_salt() -> str:
    return secrets.token_bytes(SALT_BYTES).hex()


def _check(secret: bytes, name: bytes) -> bytes:
    return hkdf(secret, name, _CHECK, 16)


def _bytes(content: dict[str, Any]) -> bytes:
    return json.dumps(content, indent=0).encode() + b"\n"
