"""`edge-stscq store` on a sealed store, as an operator meets it."""

import contextlib
import json
import shlex
import sys
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import Result
from typer.testing import CliRunner

from edge_stscq.cli.store_keys import store as app
from edge_stscq.errors import EdgeError
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from tests.support.stored_faces import accept, device_frames


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(*arguments: object) -> str:
    done = run(*arguments)
    assert isinstance(done.exception, EdgeError), (done.output, done.exception)
    message = str(done.exception)
    assert "\n" not in message
    return message


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of three faces, sealed; `EDGE_STSCQ_SEAL` says where its secret is."""
    with contextlib.closing(SqlFaceStore(tmp_path / "faces.db")) as opened:
        accept(opened, device_frames("cam", 0, b"a", b"b", b"c"))
    source = f"file:{tmp_path / 'store.secret'}"
    done = run("seal", "--store", tmp_path / "faces.db", "--seal", source, "--new-secret")
    assert done.exit_code == 0, done.exception
    assert "3 faces sealed" in done.stdout
    secret = (tmp_path / "store.secret").read_text().strip()
    assert secret not in done.output
    monkeypatch.setenv("EDGE_STSCQ_SEAL", source)
    return tmp_path / "faces.db"


def test_every_command_reads_a_sealed_store(place: Path, tmp_path: Path) -> None:
    store = ("--store", place)
    assert json.loads(run("check", *store, "--json").stdout)["faces"] == 3
    assert run("backup", *store, "-o", tmp_path / "copy.db").exit_code == 0
    done = run("export", "--device", "cam", "-o", tmp_path / "out", *store, "--json")
    assert json.loads(done.stdout)["faces"] == 3, done.exception
    payloads = {row["id"]: row["payload"] for row in json.loads((tmp_path / "out/faces.json").read_bytes())}
    assert payloads == {"cam-0": b"a".hex(), "cam-1": b"b".hex(), "cam-2": b"c".hex()}
    erased = run("erase", "cam-1", "--yes", *store)
    assert "keys are deleted" in erased.output
    checked = run("check", "--store", tmp_path / "copy.db", "--seal-keys", place.with_name("keys.db"))
    assert checked.exit_code == 1
    assert "face cam-1 cannot be read: its key is gone" in checked.output
    assert "2 faces whole, 1 without a key" in checked.output
    restored = json.loads(run("restore", tmp_path / "copy.db", *store, "--json").stdout)
    assert (restored["faces"], restored["erased"]) == (2, 1)
    assert json.loads(run("repair", *store, "--json").stdout)["kept"] == 2


@pytest.mark.parametrize("command", [
    ("check",), ("repair",), ("backup", "-o", "copy.db"), ("erase", "cam-0", "--yes"), ("export", "cam-0", "-o", "out"),
])  # fmt: skip
def test_no_command_reads_a_sealed_store_without_its_key(
    place: Path, tmp_path: Path, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDGE_STSCQ_SEAL")
    before = sorted(path.name for path in tmp_path.iterdir() if not path.name.endswith(("-wal", "-shm")))
    assert "is sealed" in refused(*command, "--store", place)
    other = tmp_path.parent / f"{tmp_path.name}.secret"
    other.write_text("x" * 40)
    other.chmod(0o600)
    assert "another secret" in refused(*command, "--store", place, "--seal", f"file:{other}")
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.endswith(("-wal", "-shm"))) == before


def test_rotate_and_copies_of_keys(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "next.secret").write_text("y" * 64)
    (tmp_path / "next.secret").chmod(0o600)
    made = json.loads(run("backup-keys", "--store", place, "-o", tmp_path / "keys", "--json").stdout)
    assert (made["keys"], made["removed"]) == (3, [])
    assert "no number of days" in refused("backup-keys", "--store", place, "-o", tmp_path / "keys", "--keep", "1h")
    new = f"file:{tmp_path / 'next.secret'}"
    assert "3 keys wrapped anew" in run("rotate", "--store", place, "--new-seal", new).output
    assert "another secret" in refused("check", "--store", place)
    monkeypatch.setenv("EDGE_STSCQ_SEAL", new)
    assert json.loads(run("check", "--store", place, "--json").stdout)["whole"] is True


def test_secrets_of_a_command_and_of_the_key_ring(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = f"command:cat {shlex.quote(str(tmp_path / 'store.secret'))}"
    monkeypatch.setenv("EDGE_STSCQ_SEAL", printed)
    assert json.loads(run("check", "--store", place, "--json").stdout)["faces"] == 3
    module, errors = ModuleType("keyring"), ModuleType("keyring.errors")
    entries = {("edge-stscq", "store"): "z" * 64}
    vars(module)["get_password"] = lambda service, user: entries.get((service, user))
    vars(errors)["KeyringError"] = RuntimeError
    monkeypatch.setitem(sys.modules, "keyring", module)
    monkeypatch.setitem(sys.modules, "keyring.errors", errors)
    ring = "keyring:edge-stscq/store"
    assert "3 keys wrapped anew" in run("rotate", "--store", place, "--new-seal", ring).output
    assert "another secret" in refused("check", "--store", place)
    assert json.loads(run("check", "--store", place, "--seal", ring, "--json").stdout)["whole"] is True
    entries.clear()
    assert "no entry edge-stscq/store; run: keyring set" in refused("check", "--store", place, "--seal", ring)
    assert "ended with code 1" in refused("check", "--store", place, "--seal", "command:false")


def test_lost_keys_are_put_back(place: Path, tmp_path: Path) -> None:
    store = ("--store", place)
    copy = json.loads(run("backup-keys", *store, "-o", tmp_path / "keys", "--json").stdout)["backup"]
    assert "newer than any copy" in refused("restore-keys", copy, *store)
    run("erase", "cam-1", "--yes", *store)
    place.with_name("keys.db").unlink()
    assert "put a copy back: edge-stscq store restore-keys COPY" in refused("check", *store)
    done = run("restore-keys", copy, *store)
    assert "2 keys; 1 of the copy were of what was erased since" in done.stdout, done.exception
    assert json.loads(run("check", *store, "--json").stdout)["faces"] == 2


def test_secret_that_others_can_read_is_refused(place: Path, tmp_path: Path) -> None:
    (tmp_path / "store.secret").chmod(0o644)
    assert "chmod 600" in refused("check", "--store", place)


def test_new_secret_needs_a_file(tmp_path: Path) -> None:
    store = tmp_path / "new.db"
    assert "--seal file:PATH" in refused("seal", "--store", store, "--seal", "command:echo x", "--new-secret")
    assert not store.exists()
