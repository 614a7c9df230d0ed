"""Secrets from where they may be kept; bad sources are one line and show nothing of a secret."""

import shlex
import stat
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from edge_stscq.errors import EdgeError, MissingExtraError
from edge_stscq.privacy import read_secret, write_new_secret

SECRET = "0123456789abcdef" * 4


def private(path: Path, text: str = SECRET + "\n", mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_file_gives_its_secret_without_the_line_end(tmp_path: Path) -> None:
    assert read_secret(f"file:{private(tmp_path / 's')}") == SECRET.encode()
    assert read_secret(f"file:{private(tmp_path / 'readonly', mode=0o400)}") == SECRET.encode()


def test_new_file_is_private_and_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    write_new_secret(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    first = read_secret(f"file:{path}")
    assert len(first) == 64
    with pytest.raises(EdgeError, match="exists; records may hang on its secret"):
        write_new_secret(path)
    assert read_secret(f"file:{path}") == first


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o602, 0o610])
def test_file_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    path = private(tmp_path / "s", mode=mode)
    with pytest.raises(EdgeError, match=f"others can read or write the secret file .*; run: chmod 600 {path}"):
        read_secret(f"file:{path}")


@pytest.mark.parametrize("text", ["", "\n", "short", SECRET[:31], "x" * 4097])
def test_secret_of_a_wrong_length_is_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    with pytest.raises(EdgeError, match="holds no secret of 32 to 4096 characters") as caught:
        read_secret(f"file:{private(tmp_path / 's', text)}")
    assert not text.strip() or text.strip() not in str(caught.value)


@pytest.mark.parametrize("source", ["", "file:", "s.secret", SECRET, "command:", "keyring:service", "env:SECRET"])
def test_source_of_no_known_kind_is_refused_and_not_shown(source: str) -> None:
    with pytest.raises(EdgeError, match="no source of a secret; give file:PATH") as caught:
        read_secret(source)
    assert SECRET not in str(caught.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="cannot read the secret file .*missing: No such file"):
        read_secret(f"file:{tmp_path / 'missing'}")
    with pytest.raises(EdgeError, match="cannot read the secret file"):
        read_secret(f"file:{tmp_path}")


def python(code: str) -> str:
    return f"command:{shlex.quote(sys.executable)} -c {shlex.quote(code)}"


def test_command_gives_what_it_prints() -> None:
    assert read_secret(python(f"print('{SECRET[:32]}' + '{SECRET[32:]}')")) == SECRET.encode()


@pytest.mark.parametrize(("source", "message"), [
    (python(f"print('{SECRET}'); raise SystemExit(3)"), "ended with code 3; run it by hand"),
    ("command:/no/such/program", "did not start"),
    ("command:'unclosed", "did not start"),
    (python("pass"), "output of the secret's command holds no secret"),
])  # fmt: skip
def test_command_that_fails_is_refused_without_its_words(source: str, message: str) -> None:
    with pytest.raises(EdgeError, match=message) as caught:
        read_secret(source)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


def ring(monkeypatch: pytest.MonkeyPatch, entries: dict[tuple[str, str], str] | None) -> None:
    """Put a key ring in place of the system's; None is one that does not answer."""
    module, errors = ModuleType("keyring"), ModuleType("keyring.errors")

    class KeyringError(Exception):
        """As the package names it."""

    def get_password(service: str, user: str) -> str | None:
        if entries is None:
            raise KeyringError("locked")
        return entries.get((service, user))

    vars(module)["get_password"], vars(errors)["KeyringError"] = get_password, KeyringError
    monkeypatch.setitem(sys.modules, "keyring", module)
    monkeypatch.setitem(sys.modules, "keyring.errors", errors)


def test_key_ring_gives_its_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    ring(monkeypatch, {("edge-stscq", "matcher"): SECRET})
    assert read_secret("keyring:edge-stscq/matcher") == SECRET.encode()
    with pytest.raises(EdgeError, match="no entry edge-stscq/other; run: keyring set edge-stscq other"):
        read_secret("keyring:edge-stscq/other")


def test_key_ring_of_the_package_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    keyring = pytest.importorskip("keyring", reason="the extra keyring is not installed")
    backend, errors = import_module("keyring.backend"), import_module("keyring.errors")

    class Ring(backend.KeyringBackend):  # type: ignore[misc, name-defined]
        """Key ring with one entry, which can be locked."""

        priority, locked = 1, False

        def get_password(self, service: str, username: str) -> str | None:
            if self.locked:
                raise errors.KeyringLocked("no")
            return SECRET if (service, username) == ("edge-stscq", "matcher") else None

        def set_password(self, service: str, username: str, password: str) -> None:
            raise errors.PasswordSetError("its entry stands")

    ring, before = Ring(), keyring.get_keyring()
    keyring.set_keyring(ring)
    try:
        assert read_secret("keyring:edge-stscq/matcher") == SECRET.encode()
        with pytest.raises(EdgeError, match="no entry edge-stscq/other"):
            read_secret("keyring:edge-stscq/other")
        ring.locked = True
        with pytest.raises(EdgeError, match="key ring does not answer; unlock it"):
            read_secret("keyring:edge-stscq/matcher")
    finally:
        keyring.set_keyring(before)


def test_key_ring_that_does_not_answer_or_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    ring(monkeypatch, None)
    with pytest.raises(EdgeError, match="key ring does not answer; unlock it"):
        read_secret("keyring:edge-stscq/matcher")
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'edge-stscq\[keyring\]'"):
        read_secret("keyring:edge-stscq/matcher")
