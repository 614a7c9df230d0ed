"""Tokens: made once, kept as hashes, found in constant time, revoked for good."""

import contextlib
import hashlib
import hmac
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic.command import check as command_check
from typer.testing import CliRunner, Result

from edge_stscq.cli.token import token as command
from edge_stscq.errors import EdgeError
from edge_stscq.server.auth import tokens as module
from edge_stscq.server.auth.scope import Scope
from edge_stscq.server.auth.token_tables import LAYOUT
from edge_stscq.server.auth.tokens import TokenStore
from edge_stscq.server.storage import database
from edge_stscq.server.storage.database import StoreError
from edge_stscq.server.storage.sql_face_store import SqlFaceStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "tokens.db"


@pytest.fixture
def tokens(path: Path) -> Iterator[TokenStore]:
    tokens = TokenStore(path, create=True)
    yield tokens
    tokens.close()


def test_token_store_keeps_hash_only(tokens: TokenStore, path: Path) -> None:
    made, text = tokens.create("door-1", [Scope.READ, Scope.SEND, Scope.READ])
    secret = text.removeprefix(f"stscq_{made.id}_")
    assert len(secret) == 43
    assert (made.device, made.scopes, made.used, made.revoked) == ("door-1", ("send", "read"), None, None)
    assert path.stat().st_mode & 0o777 == 0o600
    raw = path.read_bytes()
    assert hashlib.sha256(text.encode()).digest() in raw
    assert secret.encode() not in raw
    assert secret not in repr(made)
    assert tokens.create("door-1", [Scope.SEND])[1] != text


def test_find_whole_token_only(tokens: TokenStore) -> None:
    made, text = tokens.create("cam", [Scope.SEND])
    other, _ = tokens.create("cam", [Scope.SEND])
    assert tokens.find(text).id == made.id
    flipped = text[:-1] + ("A" if text[-1] != "A" else "B")
    for wrong in (
        "",
        text[:-1],
        text + "A",
        flipped,
        text.replace(made.id, other.id),
        text.upper(),
        f" {text}",
        "ключ",
    ):
        assert tokens.find(wrong) is None


def test_find_compares_in_constant_time(tokens: TokenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    _, text = tokens.create("cam", [Scope.SEND])
    compared: list[tuple[bytes, bytes]] = []
    compare = hmac.compare_digest

    def watched(first: bytes, second: bytes) -> bool:
        compared.append((first, second))
        return compare(first, second)

    monkeypatch.setattr(hmac, "compare_digest", watched)
    assert tokens.find(text) is not None
    assert tokens.find("guess") is None
    assert [tuple(map(len, pair)) for pair in compared] == [(32, 32), (32, 32)]
    assert compared[0][0] == hashlib.sha256(text.encode()).digest()
    monkeypatch.setattr(hmac, "compare_digest", lambda first, second: False)
    assert tokens.find(text) is None


def test_note_use_day_only(tokens: TokenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = tokens.create("cam", [Scope.SEND])
    for moment in ("2030-01-02T03:04:05+00:00", "2030-01-02T23:00:00+00:00", "2030-01-03T00:00:00+00:00"):
        monkeypatch.setattr(module, "_now", lambda moment=moment: moment)
        tokens.note_use(made)
        assert tokens.all()[0].used == module.today() == moment[:10]


def test_find_while_file_is_locked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "WAIT_SECONDS", 0.05)
    tokens = TokenStore(path, create=True)
    made, text = tokens.create("cam", [Scope.SEND])
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    assert tokens.find(text) == made
    tokens.note_use(made)
    writer.execute("ROLLBACK")
    writer.close()
    assert tokens.all()[0].used is None
    tokens.note_use(made)
    assert tokens.find(text).used == module.today()
    tokens.close()


def test_revoke_seen_by_other_store(tokens: TokenStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, text = tokens.create("cam", [Scope.SEND])
    assert tokens.find(text) is not None
    other = TokenStore(path, create=False)
    gone = other.revoke(made.id)
    monkeypatch.setattr(module, "_now", lambda: "2030-01-02T03:04:05+00:00")
    assert other.revoke(made.id) == gone
    other.close()
    assert tokens.find(text) is None
    assert tokens.any_made()
    with pytest.raises(EdgeError, match="no token 0123"):
        tokens.revoke("0123")


def test_token_store_foreign_file(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match=r"no tokens at .*edge-stscq token create --tokens .*none\.db"):
        TokenStore(tmp_path / "none.db", create=False)
    assert not (tmp_path / "none.db").exists()
    SqlFaceStore(tmp_path / "faces.db").close()
    with pytest.raises(EdgeError, match="database of another program"):
        TokenStore(tmp_path / "faces.db", create=True)
    (tmp_path / "text").touch(0o600)
    (tmp_path / "text").write_text("not a database, but long enough to be looked at as one" * 20)
    with pytest.raises(EdgeError, match="not usable for the tokens: file is not a database; choose another --tokens"):
        TokenStore(tmp_path / "text", create=True)
    with pytest.raises(EdgeError, match="cannot open the tokens"):
        TokenStore(tmp_path, create=True)
    TokenStore(tmp_path / "newer.db", create=True).close()
    with contextlib.closing(sqlite3.connect(tmp_path / "newer.db")) as db:
        db.execute("PRAGMA user_version=3")
    with pytest.raises(EdgeError, match="version 3, which this program does not know"):
        TokenStore(tmp_path / "newer.db", create=False)


FIRST_LAYOUT = """
CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    hash BLOB NOT NULL,
    device TEXT NOT NULL,
    scopes TEXT NOT NULL,
    created TEXT NOT NULL,
    used TEXT,
    revoked TEXT
) STRICT;
PRAGMA application_id=1398035275;
PRAGMA user_version=1;
"""
"""Written by releases that had no migrations of tokens."""


def first_release(path: Path, *rows: tuple[object, ...]) -> Path:
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript(FIRST_LAYOUT)
        db.executemany("INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        db.commit()
    path.chmod(0o600)
    return path


def test_migrate_first_release(tmp_path: Path) -> None:
    """Tokens of an earlier release hold, in their order, and the file is upgraded in place."""
    texts = [f"stscq_{digit * 12}_{digit * 43}" for digit in "ba"]
    hashes = [hashlib.sha256(text.encode()).digest() for text in texts]
    path = first_release(
        tmp_path / "tokens.db",
        ("b" * 12, hashes[0], "cam", "send read", "2026-01-02T03:04:05+00:00", "2026-02-03", None),
        ("a" * 12, hashes[1], "*", "admin", "2026-01-02T03:04:05+00:00", None, "2026-03-04T00:00:00+00:00"),
    )
    for _ in range(2):
        with contextlib.closing(TokenStore(path, create=False)) as store:
            first, second = store.all()
            assert (first.id, first.device, first.scopes, first.used) == (
                "b" * 12,
                "cam",
                ("send", "read"),
                "2026-02-03",
            )
            assert (second.id, second.revoked) == ("a" * 12, "2026-03-04T00:00:00+00:00")
            assert store.find(texts[0]) == first
            assert store.find(texts[1]) is None
    with contextlib.closing(TokenStore(path, create=False)) as store:
        made, text = store.create("door", [Scope.SEND])
        assert [token.id for token in store.all()] == ["b" * 12, "a" * 12, made.id]
        assert store.find(text) == made
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (2,)
        assert db.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_migrations_match_tables(tokens: TokenStore) -> None:
    with tokens._database.write() as db:
        command_check(LAYOUT.alembic_config(db))


@pytest.mark.parametrize(
    "replace", [shutil.copyfile, lambda source, target: os.replace(shutil.copy(source, f"{target}.new"), target)]
)
def test_revoke_in_replaced_file(tmp_path: Path, replace: Callable[[Path, Path], object]) -> None:
    """A token revoked on one machine holds no more on another one as soon as its file is copied there."""
    there, here = tmp_path / "there.db", tmp_path / "here.db"
    with contextlib.closing(TokenStore(there, create=True)) as store:
        made, text = store.create("cam", [Scope.SEND])
    shutil.copy(there, here)
    with contextlib.closing(TokenStore(here, create=False)) as serving:
        assert serving.find(text) is not None
        serving.note_use(made)  # as many commits here as there: SQLite's own counters cannot tell the files apart
        assert serving.find(text).used == module.today()
        with contextlib.closing(TokenStore(there, create=False)) as store:
            store.revoke(made.id)
        replace(there, here)
        assert serving.find(text) is None
        here.unlink()
        with pytest.raises(StoreError, match="are gone"):
            serving.find(text)


def test_token_store_read_only_file(path: Path, tokens: TokenStore) -> None:
    """A file that cannot be written serves all the same."""
    made, text = tokens.create("cam", [Scope.SEND])
    path.chmod(0o400)
    path.parent.chmod(0o500)
    try:
        with contextlib.closing(TokenStore(path, create=False)) as store:
            assert store.find(text) == made
            store.note_use(made)
            if os.getuid():  # root may write all the same
                assert store.find(text).used is None
    finally:
        path.parent.chmod(0o700)


def test_token_expires(tokens: TokenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, lasting = datetime.now(UTC).replace(microsecond=0), timedelta(days=90)
    made, text = tokens.create("*", [Scope.READ], "Anna Berg", lasting)
    expires = datetime.fromisoformat(made.expires)
    assert begun <= expires - lasting <= datetime.now(UTC)
    assert (made.owner, tokens.create("cam", [Scope.SEND])[0].owner) == ("Anna Berg", "cam")
    assert tokens.find(text) == made
    late = expires + timedelta(seconds=1)
    monkeypatch.setattr(module, "_now", lambda *_: late.isoformat(timespec="seconds"))
    assert tokens.find(text) is None
    with pytest.raises(EdgeError, match="revoked or expired"):
        tokens.rotate(made.id, timedelta(days=1))
    with pytest.raises(EdgeError, match="cannot name an owner"):
        tokens.create("cam", [Scope.SEND], "two\nlines")


def test_rotate_without_a_gap(tokens: TokenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both hold for a while; the later one is of the same device, scopes, owner and lifetime."""
    old, text = tokens.create("door", [Scope.SEND, Scope.READ], "Anna", timedelta(days=90))
    new, another = tokens.rotate(old.id, timedelta(hours=12))
    assert (new.device, new.scopes, new.owner) == (old.device, old.scopes, old.owner)
    assert datetime.fromisoformat(new.expires) - datetime.fromisoformat(new.created) == timedelta(days=90)
    assert tokens.find(text).id == old.id
    assert tokens.find(another).id == new.id
    later = (datetime.now(UTC) + timedelta(hours=13)).isoformat(timespec="seconds")
    monkeypatch.setattr(module, "_now", lambda *_: later)
    assert tokens.find(text) is None
    assert tokens.find(another).id == new.id
    tokens.revoke(new.id)
    for gone in (new.id, "000000000000"):
        with pytest.raises(EdgeError, match="revoked or expired|no token"):
            tokens.rotate(gone, timedelta(hours=1))


@pytest.mark.parametrize("mode", [0o644, 0o606, 0o620, 0o666])
def test_token_store_shared_file_refused(path: Path, tokens: TokenStore, mode: int) -> None:
    path.chmod(mode)
    with pytest.raises(EdgeError, match=rf"others may read or write .*mode 0{mode:o}.*run: chmod 600 .*tokens\.db"):
        TokenStore(path, create=False)


@pytest.mark.parametrize("device", ["", "a b", "../cam", "c" * 65, "cam*", "cam\n"])
def test_create_bad_device_name(tokens: TokenStore, device: str) -> None:
    with pytest.raises(EdgeError, match="cannot name a device"):
        tokens.create(device, [Scope.SEND])
    with pytest.raises(EdgeError, match="without a scope"):
        tokens.create("cam", [])


def test_token_command(path: Path) -> None:
    def edge(*words: str) -> Result:
        return CliRunner().invoke(command, [*words, "--tokens", str(path)], catch_exceptions=False)

    plain = edge("create", "--device", "door-1")
    made = json.loads(edge("create", "--device", "*", "--scope", "read", "--scope", "match", "--json").stdout)
    text = plain.stdout.strip()
    assert plain.stdout == f"{text}\n"
    assert "not shown again" in plain.stderr
    tokens = TokenStore(path, create=False)
    assert (tokens.find(text).device, tokens.find(text).scopes) == ("door-1", ("send",))
    assert tokens.find(made["token"]).id == made["id"]
    assert json.loads(edge("revoke", made["id"], "--json").stdout)["revoked"]
    assert tokens.find(made["token"]) is None
    tokens.close()
    listed = edge("list", "--json").stdout
    assert [(one["device"], one["scopes"], bool(one["revoked"])) for one in json.loads(listed)] == [
        ("door-1", ["send"], False), ("*", ["read", "match"], True),
    ]  # fmt: skip
    turned = json.loads(edge("rotate", tokens_id := json.loads(listed)[0]["id"], "--overlap", "2h", "--json").stdout)
    assert (turned["device"], turned["owner"], turned["id"] != tokens_id) == ("door-1", "door-1", True)
    limited = edge("create", "--device", "cam", "--owner", "Anna", "--expires", "90d", "--json")
    assert (json.loads(limited.stdout)["owner"], bool(json.loads(limited.stdout)["expires"])) == ("Anna", True)
    assert edge("create", "--device", "cam", "--expires", "soon").exit_code == 2
    shown = edge("list").stdout
    dates = [made["created"][:10], json.loads(limited.stdout)["expires"][:10]]
    assert all(whole in shown for whole in (made["id"], *dates)), "a narrow terminal cuts no date"
    for secret in (text, made["token"]):
        assert secret.split("_", 2)[2] not in listed + shown
