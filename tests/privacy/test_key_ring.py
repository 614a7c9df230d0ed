"""Keys by their ids, as the key stores have them: what is issued is found, what is revoked or renewed is not."""

import os
from pathlib import Path

import pytest

from edge_stscq.errors import EdgeError
from edge_stscq.privacy import KeyRing, KeyStore

SECRET, OTHER = b"s" * 32, b"t" * 32


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore.create(tmp_path / "matcher.keys", SECRET)


def test_ring_finds_keys_by_id_and_by_record(store: KeyStore) -> None:
    key = store.issue("anna")
    ring = KeyRing([store])
    assert ring.find(key.id) is None, "it was not read yet"
    assert ring.refresh() == {key.id}
    held = ring.find(key.id)
    assert held is not None
    assert (held.record, held.store, len(ring)) == ("anna", store, 1)
    assert ring.of_record("anna").key.id == key.id
    with pytest.raises(EdgeError, match="record 'ben' has no key: it was never enrolled, or it was revoked"):
        ring.of_record("ben")


def test_ring_follows_what_another_process_writes(store: KeyStore) -> None:
    old, kept = store.issue("anna"), store.issue("ben")
    ring = KeyRing([store])
    ring.refresh()
    other = KeyStore(store.path, SECRET)
    new = other.renew("anna")
    assert ring.refresh() == {old.id, new.id}
    assert ring.find(old.id) is None
    assert ring.of_record("anna").key.id == new.id
    other.revoke("anna")
    assert ring.refresh() == {new.id}
    assert (ring.find(new.id), len(ring)) == (None, 1)
    assert ring.of_record("ben").key.id == kept.id
    assert ring.refresh() == set()


def test_ring_does_not_read_a_file_that_has_settled(store: KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.issue("anna")
    ring, reads = KeyRing([store]), list[int]()
    salts = KeyStore.salts
    monkeypatch.setattr(KeyStore, "salts", lambda self: reads.append(1) or salts(self))
    ring.refresh()
    ring.refresh()
    assert len(reads) == 2, "it was changed so shortly before that it may be changed again unseen"
    os.utime(store.path, ns=(0, store.path.stat().st_mtime_ns - 10**9))
    for _ in range(3):
        ring.refresh()
    assert len(reads) == 3


def test_ring_of_several_stores(store: KeyStore, tmp_path: Path) -> None:
    door = KeyStore.create(tmp_path / "door.keys", OTHER)
    mine, theirs, alone = store.issue("anna"), door.issue("anna"), door.issue("door-1-42")
    ring = KeyRing([store, door])
    assert ring.refresh() == {mine.id, theirs.id, alone.id}
    assert ring.of_record("anna").key.id == mine.id, "the first store's counts"
    assert ring.of_record("door-1-42").store is door
    held = ring.find(theirs.id)
    assert held is not None
    assert held.store is door
    store.revoke("anna")
    ring.refresh()
    assert ring.of_record("anna").key.id == theirs.id


def test_ring_of_a_store_and_its_copy_keeps_what_one_of_them_has(store: KeyStore, tmp_path: Path) -> None:
    key = store.issue("anna")
    copy = tmp_path / "copy.keys"
    copy.write_bytes(store.path.read_bytes())
    copy.chmod(0o600)
    ring = KeyRing([store, KeyStore(copy, SECRET)])
    ring.refresh()
    store.revoke("anna")
    ring.refresh()
    assert ring.find(key.id) is not None, "a copy brings a revoked key back, as the document says"


def test_ring_refuses_what_cannot_be_read(store: KeyStore) -> None:
    key = store.issue("anna")
    ring = KeyRing([store])
    ring.refresh()
    store.path.chmod(0o640)
    with pytest.raises(EdgeError, match="others can read or write the key file"):
        ring.refresh()
    store.path.chmod(0o600)
    store.path.rename(store.path.with_suffix(".away"))
    with pytest.raises(EdgeError, match="the key store .* is gone: .*; restore it from its backup"):
        ring.refresh()
    assert ring.find(key.id) is not None
    with pytest.raises(EdgeError, match="a matcher needs a key store"):
        KeyRing([])
