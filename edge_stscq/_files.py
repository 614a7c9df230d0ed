"""Files that are whole or not there.

A power cut or a full disk must not leave half a table, stream or manifest under the final name. So the bytes go to a
temporary name in the same folder, reach the disk, and then take the final name in one step.
"""

import os
import secrets
import shlex
import stat
from pathlib import Path

from edge_stscq.errors import EdgeError


def write_file(path: Path, data: bytes, *, private: bool = False) -> None:
    """Write `data` to `path` so that a reader sees the old file or the whole new one.

    Args:
        private: nobody but the owner may read or write it (0600); otherwise the usual rights.

    Raises:
        EdgeError: the folder does not exist, is not writable or is full; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with open(os.open(temporary, flags, 0o600 if private else 0o666), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise EdgeError(f"cannot write {path}: {error.strerror}; check the folder and its free space") from error


def make_folder(path: Path, option: str = "-o") -> None:
    """Make a folder and its parents, unless it is there.

    Args:
        option: the command's option by which the user can choose another one.

    Raises:
        EdgeError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EdgeError(f"cannot make the folder {path}: {error.strerror}; choose another with {option}") from error


def refuse_shared_file(path: Path, noun: str) -> None:
    """Refuse a file that users other than its owner may read or write; one that is absent is no matter.

    Args:
        noun: what the message calls it, e.g. "the tokens".

    Raises:
        EdgeError: they may; the message has the command that ends it.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if os.name == "posix" and stat.S_ISREG(mode) and mode & 0o077:
        raise EdgeError(
            f"others may read or write {noun} at {path} (mode {mode & 0o777:04o}); run: chmod 600 "
            + shlex.quote(str(path))
        )
