"""Keys of one or more key stores in memory, by their ids: a template says which key it is of, not which record.

Cameras and commands write key stores at any time, so the files are looked at again by `refresh`. Only what is new is
derived; what is revoked or renewed is gone from memory then.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

from edge_stscq.errors import EdgeError
from edge_stscq.privacy.key_store import KeyStore
from edge_stscq.privacy.keys import RecordKey

_SETTLED_NS = 100_000_000
"""A file that was changed so shortly before it was read may change again without showing another time."""


class HeldKey(NamedTuple):
    """A record's key, and the key store that has it."""

    record: str
    key: RecordKey
    store: KeyStore


class KeyRing:
    """Empty until it is refreshed. One thread may `look` while another finds keys; all else is for one at a time.

    Args:
        stores: at least one; new records go to the first, whose counts of two records that are named alike.

    Example:
        >>> ring = KeyRing([KeyStore(Path("matcher.keys"), secret)])
        >>> ring.refresh()
    """

    def __init__(self, stores: Sequence[KeyStore]) -> None:
        if not stores:
            raise EdgeError("a matcher needs a key store; give --keys FILE")
        self.stores = tuple(stores)
        self._parts = [_Part() for _ in self.stores]

    def __len__(self) -> int:
        return sum(len(part.by_id) for part in self._parts)

    def find(self, key_id: bytes) -> HeldKey | None:
        """The key of this id."""
        return next((part.by_id[key_id] for part in self._parts if key_id in part.by_id), None)

    def of_record(self, record: str) -> HeldKey:
        """The key of a record.

        Raises:
            EdgeError: it has none, or not any more.
        """
        for part in self._parts:
            if record in part.ids:
                return part.by_id[part.ids[record]]
        raise EdgeError(f"record {record!r} has no key: it was never enrolled, or it was revoked; enroll it again")

    def refresh(self) -> set[bytes]:
        """Read the key stores that have changed; the ids of keys that came or went.

        Raises:
            EdgeError: a key store cannot be read, or others can read it; what was read of it before stays.
        """
        return self.take(self.look())

    def look(self) -> "list[News]":
        """Read the key stores that have changed, and change nothing here: this takes its time.

        Raises:
            EdgeError: as `refresh`.
        """
        news = []
        for store, part in zip(self.stores, self._parts, strict=True):
            version = _version(store)
            if version is None or version != part.version:
                news.append(part.look(store, version))
        return news

    def take(self, news: "list[News]") -> set[bytes]:
        """Take in what the last `look` has found, which is quick; the ids of keys that came or went."""
        changed: set[bytes] = set()
        for one in news:
            changed |= one.part.take(one)
        return changed


class News(NamedTuple):
    """Difference of a key store's file to what was read before: all salts, records that went, keys that came."""

    part: "_Part"
    version: tuple[int, ...] | None
    salts: dict[str, bytes]
    gone: list[str]
    fresh: list[HeldKey]


class _Part:
    """Content of one key store: salts and ids of keys by record, keys by id, and the state of its file."""

    def __init__(self) -> None:
        self.salts: dict[str, bytes] = {}
        self.ids: dict[str, bytes] = {}
        self.by_id: dict[bytes, HeldKey] = {}
        self.version: tuple[int, ...] | None = None

    def look(self, store: KeyStore, version: tuple[int, ...] | None) -> News:
        salts = store.salts()
        gone = [record for record, salt in self.salts.items() if salts.get(record) != salt]
        fresh = [
            HeldKey(record, store.derive(record, salt), store)
            for record, salt in salts.items()
            if self.salts.get(record) != salt
        ]
        return News(self, version, salts, gone, fresh)

    def take(self, news: News) -> set[bytes]:
        self.salts, self.version = news.salts, news.version
        changed = {self.ids.pop(record) for record in news.gone}
        for key_id in changed:
            del self.by_id[key_id]
        for held in news.fresh:
            self.ids[held.record], self.by_id[held.key.id] = held.key.id, held
            changed.add(held.key.id)
        return changed


def _version(store: KeyStore) -> tuple[int, ...] | None:
    """State of a file that has settled."""
    try:
        found = store.path.stat()
    except OSError as error:
        raise EdgeError(f"the key store {store.path} is gone: {error.strerror}; restore it from its backup") from None
    if time.time_ns() - found.st_mtime_ns < _SETTLED_NS:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode, found.st_uid
