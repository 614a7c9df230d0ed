"""Servers of this machine, so that its own commands find their tokens without being told.

A server that made a token for its own machine notes under its port, in the user's folder of states, where the token is
and which process it is; no secret is in the note. Who sends to a loopback address without a token looks there. A note
is believed while its process lives (on Linux that very one, not a later one of its number), and both files are believed
only if they are this user's alone: a process that takes the port of a server which has ended gets no token.
"""

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from edge_stscq._files import make_folder, write_file

PORTS = {"http": 80, "https": 443}


def is_loopback(host: str) -> bool:
    """True if `host` is a name or address that only this machine can reach."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def notes_folder() -> Path:
    """Folder of the notes: below `XDG_STATE_HOME`, or ~/.local/state."""
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "edge-stscq" / "servers"


@contextmanager
def noted_server(port: int, token_file: Path | None) -> Iterator[None]:
    """Note the server of this process until the block ends, if it has a token for this machine."""
    if token_file is None:
        yield
        return
    note, pid = notes_folder() / f"{port}.json", os.getpid()
    make_folder(note.parent, "XDG_STATE_HOME")
    note.parent.chmod(0o700)
    said = {"pid": pid, "began": _began(pid), "token_file": str(token_file.absolute())}
    write_file(note, json.dumps(said).encode(), private=True)
    try:
        yield
    finally:
        with suppress(OSError, ValueError):
            if json.loads(note.read_bytes())["pid"] == pid:
                note.unlink()


def local_token(url: str) -> str | None:
    """Token of the server of this user at a loopback address; None if there is none, or the address is another.

    Example:
        >>> local_token("http://camera.example") is None
        True
    """
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS.get(parts.scheme)
        if not is_loopback(parts.hostname or ""):
            return None
        note = json.loads(_own_text(notes_folder() / f"{port}.json"))
        os.kill(note["pid"], 0)
        if note["began"] != _began(note["pid"]):
            return None
        return _own_text(Path(note["token_file"])).strip() or None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _began(pid: int) -> str | None:
    """When a process began, in Linux's ticks since the machine did; None where that is not told."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None


def _own_text(path: Path) -> str:
    """Text of a file of this user that nobody else can read or write.

    Raises:
        OSError: it is not such a file.
    """
    with path.open(encoding="utf-8") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise PermissionError(path)
        return file.read(4096)
