"""Address of the store: a path, or a URL that may hold a password and is therefore never shown as it was given.

    faces.db                                        a SQLite file
    sqlite:///faces.db, sqlite:////srv/faces.db     the same, as a URL; four slashes begin an absolute path
    postgresql+psycopg://user@host/database         PostgreSQL; `postgresql://` means the same

libpq reads a password from `PGPASSWORD` or `~/.pgpass`, where no list of processes shows it.
"""

from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from edge_stscq.errors import EdgeError

_FORMS = "give a path, sqlite:///PATH or postgresql+psycopg://USER@HOST/DATABASE"


def store_url(place: Path | str) -> URL:
    """The database at `place`.

    Raises:
        EdgeError: it is not a path and not a URL of SQLite or PostgreSQL.
    """
    if isinstance(place, Path) or "://" not in place:
        return URL.create("sqlite", database=str(place))
    try:
        url = make_url(place)
    except (ArgumentError, ValueError):
        # What could not be parsed may hold a password anywhere.
        raise EdgeError(f"--store is not a URL that can be read; {_FORMS}, with @ : / ? in a password as %..") from None
    if url.drivername in ("postgresql", "postgresql+psycopg"):
        return url.set(drivername="postgresql+psycopg")
    if url.drivername not in ("sqlite", "sqlite+pysqlite"):
        raise EdgeError(f"a store cannot be {url.drivername}; {_FORMS}")
    if url.query or url.host or url.database in (None, "", ":memory:"):
        raise EdgeError("a SQLite store is a plain file; give its path, or sqlite:///PATH")
    return URL.create("sqlite", database=url.database)


def sqlite_path(url: URL) -> Path | None:
    """The SQLite file, None for a database elsewhere."""
    return Path(url.database or "") if url.drivername == "sqlite" else None


def redacted(url: URL) -> str:
    """Name of the store in messages: a path, or a URL without password and options."""
    return str(sqlite_path(url) or URL.create("postgresql", url.username, None, url.host, url.port, url.database))


def sibling_path(place: Path | str, name: str) -> Path:
    """The file `name` in the folder of a SQLite store; in the current folder for a database elsewhere."""
    file = sqlite_path(store_url(place))
    return Path(name) if file is None else file.with_name(name)
