"""Tokens: made once, kept as hashes, found in constant time, revoked for good."""

import hashlib
import hmac
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from edge_stscq.cli.token import token as command
from edge_stscq.errors import EdgeError
from edge_stscq.server.auth import tokens as module
from edge_stscq.server.auth.tokens import Scope, TokenStore
from edge_stscq.server.storage.face_store import FaceStore


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


def test_find_while_file_is_locked(tokens: TokenStore, path: Path) -> None:
    made, text = tokens.create("cam", [Scope.SEND])
    tokens._db.execute("PRAGMA busy_timeout=50")
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    assert tokens.find(text) == made
    tokens.note_use(made)
    writer.execute("ROLLBACK")
    writer.close()
    assert tokens.all()[0].used is None
    tokens.note_use(made)
    assert tokens.find(text).used == module.today()


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
    FaceStore(tmp_path / "faces.db").close()
    with pytest.raises(EdgeError, match="database of another program"):
        TokenStore(tmp_path / "faces.db", create=True)
    (tmp_path / "text").write_text("not a database, but long enough to be looked at as one" * 20)
    with pytest.raises(EdgeError, match="not usable for tokens"):
        TokenStore(tmp_path / "text", create=True)
    with pytest.raises(EdgeError, match="cannot open the tokens"):
        TokenStore(tmp_path, create=True)
    TokenStore(tmp_path / "newer.db", create=True).close()
    with sqlite3.connect(tmp_path / "newer.db") as db:
        db.execute("PRAGMA user_version=2")
    db.close()
    with pytest.raises(EdgeError, match="version 2, this program's is 1"):
        TokenStore(tmp_path / "newer.db", create=False)


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
    shown = edge("list").stdout
    assert made["id"] in shown
    for secret in (text, made["token"]):
        assert secret.split("_", 2)[2] not in listed + shown
