"""Secrets from a private file, a command's output or the system's key ring; never from an argument or a variable.

A secret is printable text of 32 to 4,096 characters with no spaces round it, such as 64 hexadecimal digits. It is in no
message and in no printed object.
"""

import os
import secrets
import shlex
import stat
import subprocess
from importlib import import_module
from pathlib import Path

from edge_stscq._files import write_file
from edge_stscq.errors import EdgeError, MissingExtraError

SHORTEST, LONGEST = 32, 4096
COMMAND_SECONDS = 60
_SOURCES = "give file:PATH, command:PROGRAM ARGUMENTS or keyring:SERVICE/USER"


def read_secret(source: str) -> bytes:
    """Fetch a secret.

    Args:
        source: `file:PATH`, `command:PROGRAM ARGUMENTS` (no shell; what it prints is the secret) or
            `keyring:SERVICE/USER`.

    Raises:
        EdgeError: there is no secret, it is too short, or others than its owner can read the file.
        MissingExtraError: the package keyring is not installed.

    Example:
        >>> secret = read_secret("file:/etc/edge-stscq/matcher.secret")
    """
    kind, _, rest = source.partition(":")
    if kind == "file" and rest:
        return _checked(read_private(Path(rest), "secret"), f"the file {rest}")
    if kind == "command" and rest:
        return _checked(_printed(rest), "the output of the secret's command")
    if kind == "keyring":
        service, _, user = rest.partition("/")
        if service and user:
            return _checked(_from_keyring(service, user), f"the key ring's entry {rest}")
    raise EdgeError(f"no source of a secret; {_SOURCES}")


def write_new_secret(path: Path) -> None:
    """Write a fresh secret of 256 bits to a file that its owner alone can read.

    Raises:
        EdgeError: the file exists already, or cannot be written.
    """
    if path.exists():
        raise EdgeError(f"{path} exists; records may hang on its secret, so remove it yourself or choose another name")
    write_file(path, secrets.token_hex(32).encode() + b"\n", private=True)


def read_private(path: Path, what: str) -> bytes:
    """Content of a file of mode 0600 or less that belongs to this user or to root.

    Raises:
        EdgeError: it is missing, no file, or others can read or write it.
    """
    try:
        with path.open("rb") as file:
            _check_rights(os.fstat(file.fileno()), path, what)
            return file.read()
    except OSError as error:
        raise _unreadable(path, what, error) from error


def check_private(path: Path, what: str) -> None:
    """Refuse what `read_private` would, without opening it: closing a file takes SQLite's locks on it away.

    Raises:
        EdgeError: as `read_private`.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise _unreadable(path, what, error) from error
    _check_rights(found, path, what)
    if not stat.S_ISREG(found.st_mode):
        raise EdgeError(f"cannot read the {what} file {path}: it is no file; check its path")


def _check_rights(found: os.stat_result, path: Path, what: str) -> None:
    if os.name == "posix":
        if stat.S_IMODE(found.st_mode) & 0o077:
            raise EdgeError(f"others can read or write the {what} file {path}; run: chmod 600 {path}")
        if found.st_uid not in (0, os.geteuid()):
            raise EdgeError(f"the {what} file {path} belongs to another user; run: chown {os.geteuid()} {path}")


def _unreadable(path: Path, what: str, error: OSError) -> EdgeError:
    return EdgeError(f"cannot read the {what} file {path}: {error.strerror}; check its path and rights")


def _printed(command: str) -> bytes:
    """Standard output of a command; its standard error goes where ours goes."""
    try:
        words = shlex.split(command)
        done = subprocess.run(words, stdout=subprocess.PIPE, check=False, timeout=COMMAND_SECONDS)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        reason = f"took over {COMMAND_SECONDS} s" if isinstance(error, subprocess.TimeoutExpired) else "did not start"
        raise EdgeError(f"the secret's command {reason}; run it by hand to see why") from None
    if done.returncode:
        raise EdgeError(f"the secret's command ended with code {done.returncode}; run it by hand to see why")
    return done.stdout


def _from_keyring(service: str, user: str) -> bytes:
    try:
        keyring, errors = import_module("keyring"), import_module("keyring.errors")
    except ImportError as error:
        raise MissingExtraError("keyring is not installed; run: pip install 'edge-stscq[keyring]'") from error
    try:
        found: str | None = keyring.get_password(service, user)
    except errors.KeyringError:
        raise EdgeError("the system's key ring does not answer; unlock it, or keep the secret in a file") from None
    if found is None:
        raise EdgeError(f"the key ring has no entry {service}/{user}; run: keyring set {service} {user}")
    return found.encode()


def _checked(secret: bytes, where: str) -> bytes:
    secret = secret.strip()
    if not SHORTEST <= len(secret) <= LONGEST:
        raise EdgeError(
            f"{where} holds no secret of {SHORTEST} to {LONGEST} characters; make one with: openssl rand -hex 32"
        )
    return secret
