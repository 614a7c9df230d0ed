"""Files that are whole or not there.

A power cut or a full disk must not leave half a table, stream or manifest under the final name. So the bytes go to a
temporary name in the same folder, reach the disk, and then take the final name in one step. A link is written through:
the file that it names is replaced, not the link. A device or a pipe (/dev/null, /dev/stdout, a FIFO) stays what it is
and takes the bytes as they come.
"""

import errno
import os
import secrets
import shlex
import stat
from contextlib import suppress
from pathlib import Path

from edge_stscq.errors import EdgeError


class NewFile:
    """A file in the making: bytes are appended under a temporary name, `.NAME.` and eight digits, until `publish`.

    Whoever is killed before leaves that file, with all that was appended.

    Args:
        path: the final name.
        private: nobody but the owner may read or write it (0600); otherwise the usual rights.

    Attributes:
        device: the path names a device or a pipe, which gets the bytes at once and cannot be taken back.

    Raises:
        EdgeError: the folder does not exist or is not writable, or the path is a folder.

    Example:
        >>> file = NewFile(Path("faces.stsq"), private=True)
        >>> file.append(b"some"), file.append(b" more"), file.publish()
    """

    def __init__(self, path: Path, *, private: bool = False) -> None:
        self._path, self._size = path, 0
        self._target = Path(os.path.realpath(path))
        self._temporary = self._target.with_name(f".{self._target.name}.{secrets.token_hex(4)}")
        try:
            self.device = _is_device(path)
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            flags = os.O_WRONLY if self.device else os.O_WRONLY | os.O_CREAT | os.O_EXCL
            self._file = os.open(path if self.device else self._temporary, flags, 0o600 if private else 0o666)
        except OSError as error:
            raise self._failed(error) from error

    def append(self, data: bytes) -> None:
        """Add bytes and bring them to the disk: all of them, or none.

        Raises:
            EdgeError: the disk is full or gone; what was appended before is still there.
        """
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._file, rest) :]
            if not self.device:
                os.fsync(self._file)
        except OSError as error:
            if not self.device:
                with suppress(OSError):
                    os.ftruncate(self._file, self._size)
                    os.lseek(self._file, self._size, os.SEEK_SET)
            raise self._failed(error) from error
        self._size += len(data)

    def publish(self) -> None:
        """Give the file its final name.

        Raises:
            EdgeError: that cannot be done; what was appended stays under the temporary name.
        """
        try:
            if not self.device:
                os.replace(self._temporary, self._target)
            os.close(self._file)
        except OSError as error:
            where = f"all of it is in {self._temporary}"
            raise EdgeError(f"cannot write {self._path}: {error.strerror}; {where}") from error

    def discard(self) -> None:
        """Remove what was appended; the earlier file of that name stays."""
        with suppress(OSError):
            os.close(self._file)
        if not self.device:
            self._temporary.unlink(missing_ok=True)

    def _failed(self, error: OSError) -> EdgeError:
        return EdgeError(f"cannot write {self._path}: {error.strerror}; check the folder and its free space")


def write_file(path: Path, data: bytes, *, private: bool = False) -> None:
    """Write `data` to `path` so that a reader sees the old file or the whole new one.

    Args:
        private: as in `NewFile`.

    Raises:
        EdgeError: the folder does not exist, is not writable or is full; nothing is left behind.
    """
    file = NewFile(path, private=private)
    try:
        file.append(data)
        file.publish()
    except BaseException:
        file.discard()
        raise


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


def _is_device(path: Path) -> bool:
    """A path that is no regular file and none to be, or stands for an open file of this process."""
    whole = path.absolute()
    if str(whole) in ("/dev/stdout", "/dev/stderr") or whole.parent in (Path("/dev/fd"), Path("/proc/self/fd")):
        return True
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


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
