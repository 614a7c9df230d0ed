"""Salts by record: issued, renewed, revoked; the file is private, whole, and hangs on one secret."""

import json
import stat
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from numpy.typing import NDArray

from edge_stscq.errors import EdgeError
from edge_stscq.privacy import KeyStore, scheme_named
from edge_stscq.privacy import key_store as module

SECRET, OTHER = b"s" * 32, b"t" * 32


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore.create(tmp_path / "matcher.keys", SECRET)


def test_key_of_a_record_is_the_same_when_the_store_is_opened_again(store: KeyStore) -> None:
    issued = store.issue("door-1-42")
    again = KeyStore(store.path, SECRET)
    assert again.key("door-1-42").id == issued.id
    assert again.keys().keys() == {"door-1-42"}
    assert "door-1-42" in again
    assert len(again) == 1


def test_records_share_no_key(store: KeyStore) -> None:
    keys = store.issue_all([f"record {number}" for number in range(20)])
    assert len({key.id for key in keys.values()}) == 20


def test_file_is_private_and_holds_no_secret(store: KeyStore) -> None:
    store.issue("a")
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    assert SECRET not in store.path.read_bytes()
    assert SECRET.hex() not in store.path.read_text()


def test_renewed_record_does_not_match_its_old_template(store: KeyStore) -> None:
    scheme, unit = scheme_named("rotated"), (np.ones(128) / 128**0.5).astype(np.float32)
    old_key = store.issue("a")
    old = scheme.enroll(unit, old_key)
    new_key = store.renew("a")
    assert store.key("a").id == new_key.id != old_key.id
    with pytest.raises(EdgeError, match="the record was renewed since"):
        scheme.match(old, unit, store.key("a"))
    with pytest.raises(EdgeError, match="the record was renewed since"):
        scheme.match(scheme.enroll(unit, new_key), unit, old_key)


def test_revoked_record_has_no_key_and_its_salt_is_gone(store: KeyStore, tmp_path: Path) -> None:
    store.issue_all(["a", "b"])
    salt = json.loads(store.path.read_text())["salts"]["a"]
    store.revoke("a")
    assert "a" not in store
    assert "b" in store
    assert not [path for path in tmp_path.iterdir() if salt.encode() in path.read_bytes()]
    for use in (store.key, store.renew, store.revoke):
        with pytest.raises(EdgeError, match="record 'a' has no key: it was never enrolled, or it was revoked"):
            use("a")


def test_bytes_of_the_file_before_are_overwritten(store: KeyStore, tmp_path: Path) -> None:
    store.issue("a")
    (tmp_path / "kept").hardlink_to(store.path)
    store.revoke("a")
    assert not any((tmp_path / "kept").read_bytes())


def test_record_that_has_a_key_is_not_issued_another(store: KeyStore) -> None:
    first = store.issue("a")
    with pytest.raises(EdgeError, match="record 'a' has a key already"):
        store.issue_all(["b", "a"])
    assert store.key("a").id == first.id
    assert "b" not in store


@pytest.mark.parametrize("name", ["", "x" * 201])
def test_name_out_of_range_is_refused(store: KeyStore, name: str) -> None:
    with pytest.raises(EdgeError, match="1 to 200 characters"):
        store.issue(name)


def test_store_hangs_on_its_secret(store: KeyStore) -> None:
    with pytest.raises(EdgeError, match="hangs on another secret"):
        KeyStore(store.path, OTHER)


def test_store_that_others_can_read_is_refused(store: KeyStore) -> None:
    before = store.path.read_bytes()
    store.path.chmod(0o640)
    with pytest.raises(EdgeError, match="others can read or write the key file"):
        store.issue("a")
    assert store.path.read_bytes() == before


@pytest.mark.parametrize("data", [
    b"", b"{}", b"[]", b"\xff", b'{"format": 2, "id": "", "check": "", "salts": {}}',
    b'{"format": 1, "id": "00", "check": "00", "salts": {"a": "00"}}',
    b'{"format": 1, "id": "00", "check": "00", "salts": []}',
    b'{"format": 1, "id": "00", "check": "00", "salts": {"a": 7}}',
])  # fmt: skip
def test_damaged_store_is_refused_and_left_alone(store: KeyStore, data: bytes) -> None:
    store.path.write_bytes(data)
    with pytest.raises(EdgeError, match="is no key store of this version"):
        store.issue("a")
    assert store.path.read_bytes() == data


def test_existing_store_is_not_made_anew(store: KeyStore) -> None:
    with pytest.raises(EdgeError, match="exists; open it"):
        KeyStore.create(store.path, SECRET)


def test_missing_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="cannot read the key file .*none.keys: No such file"):
        KeyStore(tmp_path / "none.keys", SECRET)
    with pytest.raises(EdgeError, match="its folder does not exist"):
        KeyStore.create(tmp_path / "none" / "a.keys", SECRET)
    assert not list(tmp_path.iterdir())


def test_failed_write_leaves_the_store_whole(store: KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    key = store.issue("a")

    def full(*_: object, **__: object) -> None:
        raise EdgeError("cannot write: No space left on device; check the folder and its free space")

    monkeypatch.setattr(module, "write_file", full)
    with pytest.raises(EdgeError, match="No space left"):
        store.revoke("a")
    assert store.key("a").id == key.id


def test_store_that_another_process_holds_is_waited_for_and_told(
    store: KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOCK_SECONDS", 0)
    with FileLock(store.path.with_name(f".{store.path.name}.lock")), pytest.raises(EdgeError, match="another process"):
        store.issue("a")


def test_keys_feed_a_gallery(store: KeyStore) -> None:
    scheme, random = scheme_named("rotated"), np.random.default_rng(0)
    faces: dict[str, NDArray[np.float32]] = {}
    for name in "abc":
        drawn = random.standard_normal(128)
        faces[name] = (drawn / np.linalg.norm(drawn)).astype(np.float32)
    issued = store.issue_all(list(faces))
    templates = {name: scheme.enroll(face, issued[name]) for name, face in faces.items()}
    keys = KeyStore(store.path, SECRET).keys()
    gallery = scheme.gallery([templates[name] for name in keys], list(keys.values()))
    assert list(keys)[int(gallery.scores(faces["b"]).argmax())] == "b"
