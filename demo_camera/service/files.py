"""Files that settings name: secrets, certificates, folders."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr

from edge_stscq.errors import EdgeError

_LONGEST_SECRET = 64 * 1024
"""Bytes: a PEM key has a few thousand."""
_CREDENTIALS = "CREDENTIALS_DIRECTORY"
"""Variable by which systemd names the folder of a service's credentials, which it guards by more than the mode."""


@contextmanager
def as_value_error() -> Iterator[None]:
    """Let what is wrong with a value be reported with its place among the settings."""
    try:
        yield
    except EdgeError as error:
        raise ValueError(str(error)) from None


def read_secret(path: Path) -> SecretStr:
    """The secret in a file, without the white space around it.

    Raises:
        EdgeError: it cannot be read, others may read it, or it is empty or no text.
    """
    check_private(path)
    try:
        with path.open("rb") as file:
            secret = file.read(_LONGEST_SECRET).decode("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise EdgeError(f"cannot read a secret from {path} ({_reason(error)}); put it there, alone") from None
    if not secret:
        raise EdgeError(f"{path} is empty; put the secret there, alone")
    return SecretStr(secret)


def check_private(path: Path) -> None:
    """Refuse a file that others than its owner may read or write.

    Raises:
        EdgeError: that, or there is no such file.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise EdgeError(f"cannot read {path}: {error.strerror}; name a file that this user can read") from None
    if mode & 0o077 and os.name == "posix" and not _is_credential(path):
        raise EdgeError(f"others may read or write {path}; run: chmod 600 {path}")


def private(path: Path) -> Path:
    """As `read_secret`, for a validator: the path itself, and `ValueError`."""
    with as_value_error():
        read_secret(path)
    return path


def readable(path: Path) -> Path:
    """The path of a file that can be read; `ValueError` otherwise."""
    try:
        path.open("rb").close()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}; name a file that this user can read") from None
    return path


def writable_folder(path: Path) -> Path:
    """The path of a folder that is writable or can be made; `ValueError` otherwise."""
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise ValueError(f"{there} is not a folder; choose another one")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"cannot write into {there}; choose another folder or give it to this user")
    return path


def _is_credential(path: Path) -> bool:
    folder = os.environ.get(_CREDENTIALS)
    return bool(folder) and path.resolve().is_relative_to(Path(str(folder)).resolve())


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return "not text" if isinstance(error, UnicodeDecodeError) else str(error.strerror)
