"""Copies of the key file: kept elsewhere for some days, and put back where it was lost."""

import calendar
import contextlib
import os
import re
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from edge_stscq._secrets import check_private
from edge_stscq._sqlite import FAILURES
from edge_stscq.errors import EdgeError
from edge_stscq.server.maintenance.files import discard, moved_aside, read_only, replace_store
from edge_stscq.server.sealing.face_seal import FaceSeal
from edge_stscq.server.sealing.key_file import KeyFile
from edge_stscq.server.storage.database import sqlite_path, store_url
from edge_stscq.server.storage.sql_face_store import SqlFaceStore

DAY = 86400.0
_COPY = re.compile(r"keys-(\d{8}T\d{6}Z)(-\d+)?\.db")


@dataclass(frozen=True)
class KeyBackup:
    """Result: the copy, how many keys it holds, and the older copies that were removed."""

    backup: str
    keys: int
    removed: list[str]


def backup_keys(keys: Path, secret: bytes, folder: Path, days: float, now: float | None = None) -> KeyBackup:
    """Copy the key file into a folder, and remove the copies there that are older than some days.

    A copy opens faces that are erased later, as long as it is kept: so it is kept for a time, and apart from the store.

    Raises:
        EdgeError: the key file cannot be used, or the folder cannot be written or is open to others.
    """
    with contextlib.closing(KeyFile(keys, secret)) as opened:
        count = len(opened)
    now = time.time() if now is None else now
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        output = _free(folder, now)
        partial = folder / f".{output.name}.partial"
        discard(partial)
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            with contextlib.closing(read_only(keys)) as source, contextlib.closing(sqlite3.connect(partial)) as copy:
                source.backup(copy)
                copy.execute("PRAGMA journal_mode=DELETE")
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            os.rename(partial, output)
        finally:
            discard(partial)
        removed = [old for old in sorted(folder.iterdir()) if old != output and _made(old, now) < now - days * DAY]
        for old in removed:
            _overwrite(old)
    except (OSError, *FAILURES) as error:
        raise EdgeError(f"cannot back up {keys} to {folder}: {error}; check both") from None
    return KeyBackup(str(output), count, [str(old) for old in removed])


@dataclass(frozen=True)
class KeyRestore:
    """Result: the key file, how many keys it holds, how many of the copy's were erased since, and the old file.

    Attributes:
        moved: where a file that could not be used is now, None if there was none.
    """

    file: str
    keys: int
    erased: int
    moved: str | None


def restore_keys(copy: Path, keys: Path, secret: bytes, place: Path | str) -> KeyRestore:
    """Put a copy of the key file in the place of one that is lost, damaged, or hangs on a secret that is lost.

    Keys of what was erased from the store since the copy was made go at once. Faces that came since have none: their
    cameras send them again as far as they still have them.

    Args:
        secret: that the copy hangs on.
        place: of the store; it need not be there yet.

    Raises:
        EdgeError: the copy cannot be used or is of another store, or the key file is whole: it has all keys that the
            copy has, but for erased ones.
    """
    if keys.exists() and _is_whole(keys, secret):
        raise EdgeError(f"{keys} can be read, and is newer than any copy; move it aside if you know that it is damaged")
    check_private(copy, "key")
    fresh = keys.with_name(f"{keys.name}.restoring")
    discard(fresh)
    try:
        with contextlib.closing(read_only(copy)) as source:
            os.close(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            with contextlib.closing(sqlite3.connect(fresh)) as target:
                source.backup(target)
        with contextlib.closing(KeyFile(fresh, secret)) as opened:
            count = len(opened)
        path = sqlite_path(store_url(place))
        if path is None or path.exists():
            SqlFaceStore(place, FaceSeal(KeyFile(fresh, secret))).close()
        with contextlib.closing(KeyFile(fresh, secret)) as opened:
            left = len(opened)
            opened.scrub()
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
    except (OSError, *FAILURES) as error:
        discard(fresh)
        raise EdgeError(f"cannot put {copy} in the place of {keys}: {error}; check both") from None
    except EdgeError as error:
        discard(fresh)
        raise EdgeError(str(error).replace(str(fresh), str(copy))) from None
    aside = moved_aside(keys, "replaced") if keys.exists() else None
    if aside is None:
        os.rename(fresh, keys)
    else:
        replace_store(fresh, keys, aside)
    discard(fresh)
    return KeyRestore(str(keys), left, count - left, None if aside is None else str(aside))


def _is_whole(keys: Path, secret: bytes) -> bool:
    with contextlib.suppress(EdgeError), contextlib.closing(KeyFile(keys, secret)):
        return True
    return False


def _free(folder: Path, now: float) -> Path:
    base = folder / f"keys-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now))}.db"
    path, number = base, 1
    while path.exists():
        number += 1
        path = base.with_name(f"{base.stem}-{number}.db")
    return path


def _made(path: Path, now: float) -> float:
    """When a copy was made, by its name; now of any other file."""
    match = _COPY.fullmatch(path.name)
    if match is None:
        return now
    return float(calendar.timegm(time.strptime(match[1], "%Y%m%dT%H%M%SZ")))


def _overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(bytes(os.fstat(file.fileno()).st_size))
        file.flush()
        os.fsync(file.fileno())
    path.unlink()
