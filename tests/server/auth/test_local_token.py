"""The token of a server's own machine: made once, for its user alone, and found by his commands."""

import contextlib
import json
import os
from pathlib import Path

import pytest

from edge_stscq._local_servers import local_token, noted_server, notes_folder
from edge_stscq.errors import EdgeError
from edge_stscq.server.announcement import Announcement
from edge_stscq.server.auth.local_token import local_server_token
from edge_stscq.server.auth.scope import Scope
from edge_stscq.server.auth.tokens import TokenStore


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return notes_folder()


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "local-token"
    file.touch(0o600)
    file.write_text("stscq_text\n")
    return file


def test_local_token_made_once_and_revoked_for_good(tmp_path: Path) -> None:
    with contextlib.closing(TokenStore(tmp_path / "tokens.db", create=True)) as tokens:
        made = local_server_token(tokens)
        assert made.file.read_text() == f"{made.text}\n"
        assert made.file.stat().st_mode & 0o777 == 0o600
        found = tokens.find(made.text)
        assert (found.device, found.scopes, "on this machine" in found.owner) == ("*", tuple(Scope), True)
        assert local_server_token(tokens) == made
        made.file.chmod(0o644)
        with pytest.raises(EdgeError, match="run: chmod 600"):
            local_server_token(tokens)
        made.file.chmod(0o600)
        tokens.revoke(found.id)
        assert local_server_token(tokens) is None


def test_local_token_not_made_where_others_are(tmp_path: Path) -> None:
    with contextlib.closing(TokenStore(tmp_path / "tokens.db", create=True)) as tokens:
        tokens.create("cam", [Scope.SEND])
        assert local_server_token(tokens) is None
        assert not (tmp_path / "local-token").exists()


def test_local_token_found_at_its_address_alone(token_file: Path, state: Path) -> None:
    with noted_server(8377, token_file):
        for url in ("http://127.0.0.1:8377", "http://localhost:8377/", "https://[::1]:8377/faces/"):
            assert local_token(url) == "stscq_text"
        for url in (
            "http://127.0.0.1:8378", "http://127.0.0.1", "http://camera.example:8377", "http://192.0.2.7:8377",
            "http://127.0.0.1.example:8377", "http://127.0.0.1:port", "nonsense", "",
        ):  # fmt: skip
            assert local_token(url) is None
        assert state.stat().st_mode & 0o077 == 0
    assert local_token("http://127.0.0.1:8377") is None


def test_local_token_of_a_server_that_is_gone(token_file: Path, state: Path) -> None:
    """Whoever has its port now is not told the token."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    with noted_server(8377, token_file):
        note = state / "8377.json"
        said = json.loads(note.read_bytes())
        assert local_token("http://127.0.0.1:8377") == "stscq_text"
        for changed in ({"pid": child}, {"pid": 1}, {"began": "1"}):
            note.write_text(json.dumps(said | changed))
            assert local_token("http://127.0.0.1:8377") is None, changed


@pytest.mark.parametrize("shared", ["note", "token"])
def test_local_token_of_a_shared_file_is_not_believed(token_file: Path, state: Path, shared: str) -> None:
    with noted_server(8377, token_file):
        (state / "8377.json" if shared == "note" else token_file).chmod(0o644)
        assert local_token("http://127.0.0.1:8377") is None


def test_announcement_shows_token_only_where_nobody_keeps_it() -> None:
    said = Announcement("http://h:1", {"ab": "m"}, "cpu", "faces.db", None, "stscq_text", "/srv/local-token")
    assert "stscq_text" not in str(said)
    assert said.page(with_token=True) == "the page: http://h:1/#token=stscq_text"
    assert "stscq_text" not in said.page(with_token=False)
    assert "/srv/local-token" in said.page(with_token=False)
    assert "token create" in Announcement("http://h:1", {}, "cpu", "f").page(with_token=True)
