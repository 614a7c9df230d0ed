"""Salts by record: issued, renewed, revoked; the file is private, whole, and hangs on one secret."""

import json
import sqlite3
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
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
    assert SECRET.hex().encode() not in store.path.read_bytes()


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


def salts(store: KeyStore) -> dict[str, bytes]:
    with closing(sqlite3.connect(store.path)) as db:
        return dict(db.execute("SELECT record, salt FROM salts"))


def left_of(store: KeyStore, gone: list[bytes]) -> list[bytes]:
    """Salts of which some file beside the store still has half."""
    held = b"".join(path.read_bytes() for path in sorted(store.path.parent.iterdir()))
    return [salt for salt in gone if salt[:16] in held or salt[16:] in held]


def test_revoked_record_has_no_key_and_its_salt_is_gone(store: KeyStore) -> None:
    store.issue_all(["a", "b"])
    before = salts(store)
    assert left_of(store, list(before.values())) == list(before.values())
    store.revoke("a")
    assert "a" not in store
    assert "b" in store
    assert left_of(store, [before["a"]]) == []
    for use in (store.key, store.renew, store.revoke):
        with pytest.raises(EdgeError, match="record 'a' has no key: it was never enrolled, or it was revoked"):
            use("a")


def test_renewed_salt_is_gone(store: KeyStore) -> None:
    store.issue("a")
    before = salts(store)
    store.renew("a")
    assert left_of(store, list(before.values())) == []


def test_no_salt_of_many_that_were_revoked_in_any_order_is_left(
    store: KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PRAGMAS", (*module._PRAGMAS, "synchronous=OFF", "fullfsync=OFF"))
    names = [f"door-1-{number}" for number in range(300)]
    store.issue_all(names)
    before, order = salts(store), np.random.default_rng(0).permutation(names)
    kept = set(order[250:])
    for name in order[:250]:
        store.revoke(name)
    assert store.keys().keys() == kept
    assert left_of(store, [salt for name, salt in before.items() if name not in kept]) == []


def test_journal_keeps_nothing(store: KeyStore) -> None:
    store.issue_all([f"record {number}" for number in range(100)])
    store.revoke("record 7")
    journal = store.path.with_name(f"{store.path.name}-journal")
    assert not any(journal.read_bytes())
    assert stat.S_IMODE(journal.stat().st_mode) == 0o600


def test_ten_thousand_records_are_issued_and_read(store: KeyStore) -> None:
    names = [f"door-1-{number}" for number in range(10_000)]
    issued = store.issue_all(names)
    assert len(store) == 10_000
    store.revoke("door-1-5")
    assert "door-1-5" not in store
    assert store.key("door-1-9999").id == issued["door-1-9999"].id


def test_threads_change_one_store_at_once(store: KeyStore) -> None:
    begin = threading.Barrier(4)

    def work(thread: int) -> None:
        begin.wait()
        for number in range(5):
            store.issue(f"{thread}-{number}")
            store.renew(f"{thread}-{number}")
            if number % 2:
                store.revoke(f"{thread}-{number}")

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    assert store.keys().keys() == {f"{thread}-{number}" for thread in range(4) for number in (0, 2, 4)}


def test_salt_under_another_name_gives_another_key(store: KeyStore) -> None:
    scheme, unit = scheme_named("rotated"), (np.ones(128) / 128**0.5).astype(np.float32)
    template = scheme.enroll(unit, store.issue("a"))
    store.issue("b")
    with closing(sqlite3.connect(store.path, isolation_level=None)) as db:
        db.execute("UPDATE salts SET salt = (SELECT salt FROM salts WHERE record = 'a') WHERE record = 'b'")
    with pytest.raises(EdgeError, match="another secret, or the record was renewed"):
        scheme.match(template, unit, store.key("b"))
    assert scheme.match(template, unit, store.key("a")) > 0.9


def test_record_that_has_a_key_is_not_issued_another(store: KeyStore) -> None:
    first = store.issue("a")
    with pytest.raises(EdgeError, match="record 'a' has a key already"):
        store.issue_all(["b", "a"])
    assert store.key("a").id == first.id
    assert "b" not in store


@pytest.mark.parametrize("name", ["", "x" * 201, "a\nb", "\ud800"])
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


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff" * 5000, b"SQLite format 3\0" + bytes(4080)])
def test_damaged_store_is_refused_and_left_alone(store: KeyStore, data: bytes) -> None:
    store.path.write_bytes(data)
    with pytest.raises(EdgeError, match="is no key store of this version"):
        store.issue("a")
    assert store.path.read_bytes() == data


def test_store_of_the_first_version_says_what_to_do(store: KeyStore) -> None:
    content = {"format": 1, "id": "00" * 32, "check": "00" * 16, "salts": {"a": "00" * 32}}
    store.path.write_bytes(json.dumps(content, indent=0).encode() + b"\n")
    before = store.path.read_bytes()
    with pytest.raises(EdgeError, match="of an early version, .* enroll again with a new --keys") as caught:
        KeyStore(store.path, SECRET)
    assert "\n" not in str(caught.value)
    assert store.path.read_bytes() == before


def test_store_of_another_program_or_version_is_refused(store: KeyStore) -> None:
    for pragma in ("user_version=2", "application_id=1"):
        with closing(sqlite3.connect(store.path)) as db:
            db.execute(f"PRAGMA {pragma}")
        with pytest.raises(EdgeError, match="is no key store of this version"):
            store.issue("a")


def test_store_cut_off_is_refused(store: KeyStore) -> None:
    store.issue_all([f"record {number}" for number in range(500)])
    store.path.write_bytes(store.path.read_bytes()[: 4096 * 4])
    with pytest.raises(EdgeError, match="is no key store of this version"):
        store.keys()


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
    monkeypatch.setattr(module, "_PRAGMAS", (*module._PRAGMAS, "max_page_count=1"))
    with pytest.raises(EdgeError, match="cannot use .*full; check the folder, its rights and its free space"):
        store.issue_all([f"record {number}" for number in range(1000)])
    monkeypatch.undo()
    assert store.keys().keys() == {"a"}
    assert store.key("a").id == key.id


def test_change_that_a_killed_process_left_is_taken_back(store: KeyStore, tmp_path: Path) -> None:
    key, copy = store.issue("a"), tmp_path / "copy" / "matcher.keys"
    copy.parent.mkdir(mode=0o700)
    with closing(sqlite3.connect(store.path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=PERSIST")
        db.execute("PRAGMA cache_size=1")
        db.execute("BEGIN IMMEDIATE")
        for number in range(2000):  # more than the cache holds, so that pages reach the file before the commit
            db.execute("INSERT INTO salts (record, salt) VALUES (?, ?)", (f"record {number}", bytes(32)))
        for name in (store.path.name, f"{store.path.name}-journal"):
            (copy.parent / name).write_bytes((tmp_path / name).read_bytes())
            (copy.parent / name).chmod(0o600)
        db.execute("ROLLBACK")
    found = KeyStore(copy, SECRET)
    assert found.keys().keys() == {"a"}
    assert found.key("a").id == key.id


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


def test_key_that_is_being_issued_is_written_only_when_all_went_well(store: KeyStore) -> None:
    with pytest.raises(RuntimeError), store.issuing("a") as key:
        raise RuntimeError("its template did not arrive")
    assert "a" not in store
    with store.issuing("a") as key:
        assert "a" not in store
    assert store.key("a").id == key.id
    with pytest.raises(EdgeError, match="record 'a' has a key already"), store.issuing("a"):
        raise AssertionError("nobody gets as far")
    with pytest.raises(EdgeError, match="record 'b' has a key already"), store.issuing("b"):
        KeyStore(store.path, SECRET).issue("b")  # another process was faster


def test_key_that_is_being_renewed_stays_if_something_failed(store: KeyStore) -> None:
    old = store.issue("a")
    with pytest.raises(RuntimeError), store.renewing("a"):
        raise RuntimeError("its template did not arrive")
    assert store.key("a").id == old.id
    with store.renewing("a") as key:
        assert store.key("a").id == old.id
    assert store.key("a").id == key.id != old.id
    with pytest.raises(EdgeError, match="record 'a' has no key"), store.renewing("a"):
        KeyStore(store.path, SECRET).revoke("a")
    with pytest.raises(EdgeError, match="record 'a' has no key"), store.renewing("a"):
        raise AssertionError("nobody gets as far")
