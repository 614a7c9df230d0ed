"""SQLAlchemy engine and transactions of the server's databases, durable on SQLite and PostgreSQL.

SQLite commits with `synchronous=FULL`, PostgreSQL with `synchronous_commit=on`: what a commit has
returned for is on disk. `Database` yields transactions of two kinds. A writing one has SQLite's write lock from its
first statement; in PostgreSQL the writers themselves say what they hold. Whatever fails in one, from a full disk to a
server that is away, is a `StoreError`; the next transaction tries again on a fresh connection.

Opening brings the layout up to date (see `layout`), under a lock, in one transaction.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from edge_stscq._files import refuse_shared_file
from edge_stscq._sqlite import set_pragmas
from edge_stscq.errors import EdgeError, require
from edge_stscq.server.storage.layout import Layout

WAIT_SECONDS = 5
"""For a connection, and for a lock that another server holds."""
RETRY_SECONDS = 0.02
"""Between two attempts at what does not wait for a lock by itself."""
POOL = 8
"""Connections of one server."""
IDLE_SECONDS = 1.0
"""After which a connection to PostgreSQL is tried before it is used; a busy one would wait for that each time."""

_FORMS = "give a path, sqlite:///PATH or postgresql+psycopg://USER@HOST/DATABASE"
_CACHE_KIB, _LOG_PAGES = 16 << 10, 4000
"""Of a connection, and after how many the log is taken in: a page that many commits touch is then written once for all
of them, and not read anew for each."""
_PRAGMAS = (
    "synchronous=FULL", "fullfsync=ON", "secure_delete=ON", f"cache_size=-{_CACHE_KIB}",
    f"wal_autocheckpoint={_LOG_PAGES}",
)  # fmt: skip
_POSTGRES = {
    "synchronous_commit": "on",
    "lock_timeout": f"{WAIT_SECONDS}s",
    "statement_timeout": "30s",
    "idle_in_transaction_session_timeout": "30s",
}


_REFERRING = text(
    "SELECT conrelid::regclass::text FROM pg_constraint WHERE contype = 'f' AND confrelid = CAST(:to AS regclass)"
)
"""Tables whose rows refer to those of another in PostgreSQL, as a command names them."""
LEAST_ROOM = 4 * 2**20
"""Bytes: a request of 1 MiB, its indexes, and the log that it goes through."""


class StoreError(Exception):
    """The database did not do what was asked: away, locked, full, read-only, replaced. The transaction is not kept."""


class Database:
    """Open or create the database at `url`; safe to call from many threads, beside other servers.

    Attributes:
        name: the database as messages may show it.

    Raises:
        EdgeError: it cannot be reached or written, is another program's, or is of a newer version.
    """

    def __init__(self, url: URL, layout: Layout) -> None:
        self.name, path = redacted(url), sqlite_path(url)
        self._writer = nullcontext() if path is None else threading.Lock()
        self._file = None if path is None else _OpenFile(path)
        self._engine = _postgres(url) if self._file is None else _sqlite(url, self._file, layout)
        try:
            if not (layout.read_only and self._is_current(layout)):
                with self.write() as connection:
                    layout.upgrade(connection, self.name)
            if path is not None:
                refuse_shared_file(path, layout.noun)
        except StoreError as error:
            self.close()
            problem = f"{self.name} is not usable for {layout.noun}: {error}"
            raise EdgeError(f"{problem}; choose another {layout.option}") from None
        except EdgeError:
            self.close()
            raise

    @property
    def is_postgres(self) -> bool:
        """False of a SQLite file."""
        return self._file is None

    def _is_current(self, layout: Layout) -> bool:
        with self.read() as connection:
            return layout.is_current(connection)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads."""
        with self._in_place(), _failures(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that commits, durably, at the end; or leaves the store as it was."""
        # Threads of one process queue at a lock, since SQLite's own waiting is by sleeping.
        with self._writer, self._in_place(), _failures(), self._engine.connect() as connection:
            connection.execution_options(edge_stscq_writes=True)
            with connection.begin():
                yield connection

    @contextmanager
    def _in_place(self) -> Iterator[None]:
        """Raise `StoreError` if, before or after the block, another file than the one that is open has its name."""
        if self._file is not None:
            self._file.check()
        yield
        if self._file is not None:
            self._file.check()

    def check_room(self) -> None:
        """Check that what one request may bring would find room: a small write succeeds long after that.

        PostgreSQL's disk is its operator's to watch.

        Raises:
            StoreError: there is none.
        """
        if self._file is None:
            return
        disk = os.statvfs(self._file.path.parent)
        if disk.f_bavail * disk.f_frsize < LEAST_ROOM:
            raise StoreError(f"database or disk is full: less than {LEAST_ROOM // 2**20} MiB are left")

    def scrub(self, *, rewrite: bool, table: str) -> None:
        """Leave nothing of removed rows behind: in SQLite's log, and with `rewrite` in the free room of its pages.

        PostgreSQL gives the room of removed rows, of the table and of those that refer to it, back to those that come,
        and overwrites it then.

        Raises:
            StoreError: a reader of SQLite's log did not end for `WAIT_SECONDS`.
        """
        if self._file is None:
            with self.read() as connection:
                found = connection.execute(_REFERRING, {"to": table}).scalars().all()
            self._vacuum("VACUUM", table, *found)
            return
        end = time.monotonic() + WAIT_SECONDS
        with self._writer, _failures(), self._engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            if rewrite:
                driver.execute("VACUUM")
            while True:
                (busy, *_) = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                if not busy:
                    return
                if time.monotonic() > end:
                    raise StoreError("somebody reads all the time; what was removed is still in the log")
                time.sleep(RETRY_SECONDS)

    def rewrite(self, *tables: str) -> None:
        """Write all anew, so that nothing is left of what was removed or replaced: SQLite's file, or these tables.

        PostgreSQL's own log and archives keep what they keep, for as long as its operator has them.

        Raises:
            StoreError: as `scrub`, or a lock of PostgreSQL's was held for `WAIT_SECONDS`.
        """
        if self._file is None:
            self._vacuum("VACUUM FULL", *tables)
        else:
            self.scrub(rewrite=True, table=tables[0])

    def _vacuum(self, command: str, *tables: str) -> None:
        with _failures(), self._engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            connection.execute(text("SET statement_timeout = 0"))
            for table in tables:
                connection.execute(text(f"{command} {table}"))
            connection.invalidate()  # its settings are not those of the others

    def close(self) -> None:
        """Close every connection, once the transactions of other threads have ended; the next one opens another."""
        pool: Any = self._engine.pool
        end = time.monotonic() + WAIT_SECONDS
        while pool.checkedout() and time.monotonic() < end:
            time.sleep(RETRY_SECONDS)
        self._engine.dispose()
        if self._file is not None:
            self._file.forget()


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:  # of SQLite's words about a damaged definition
        raise StoreError(f"the file is damaged: {error}") from None
    except SQLAlchemyError as error:
        # SQLAlchemy's own text would quote the statement, the driver's says what happened.
        reason = error.orig if isinstance(error, DBAPIError) else error
        raise StoreError(" ".join(str(reason).split())) from None


class _OpenFile:
    """File that a database has open; what a path names may be replaced, and the open file is nobody's then."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened: tuple[int, int] | None = None

    def note(self) -> None:
        """A connection was opened: all that follow must be to the same file."""
        self._opened = self._opened or self._found()

    def forget(self) -> None:
        """No connection is open any more."""
        self._opened = None

    def check(self) -> None:
        if self._opened is not None and self._found() != self._opened:
            raise StoreError(f"{self.path} was replaced or removed while it was open; start the server again")

    def _found(self) -> tuple[int, int] | None:
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino


def _sqlite(url: URL, file: _OpenFile, layout: Layout) -> Engine:
    path = file.path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | (os.O_RDONLY if layout.read_only else os.O_RDWR), 0o600))
    except OSError as error:
        raise EdgeError(f"cannot open {layout.noun} at {path}: {error}; choose another {layout.option}") from None
    engine = _engine(url, timeout=WAIT_SECONDS)

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, record: object) -> None:
        connection.isolation_level = None  # transactions begin where we say so
        # A damaged text is its row's matter, not a failure of whatever else is read with it.
        connection.text_factory = lambda found: found.decode(errors="replace")
        set_pragmas(connection, (f"journal_mode={layout.journal_mode}", *_PRAGMAS), WAIT_SECONDS)
        file.note()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("edge_stscq_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _postgres(url: URL) -> Engine:
    require("psycopg", "postgres")
    given = url.query.get("options", "")
    options = " ".join(f"-c {name}={value}" for name, value in _POSTGRES.items())
    engine = _engine(
        url.difference_update_query(["options"]),
        options=f"{given if isinstance(given, str) else ' '.join(given)} {options}",
        connect_timeout=WAIT_SECONDS, keepalives_idle=30, tcp_user_timeout=30_000,
    )  # fmt: skip

    @event.listens_for(engine, "checkin")
    def note_use(connection: object, record: ConnectionPoolEntry) -> None:
        record.info["used"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def try_idle(connection: Any, record: ConnectionPoolEntry, proxy: object) -> None:
        if time.monotonic() - record.info.get("used", time.monotonic()) < IDLE_SECONDS:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise DisconnectionError(str(error)) from None  # the pool opens another

    return engine


def _engine(url: URL, **connect: Any) -> Engine:
    postgres: dict[str, Any] = {"isolation_level": "READ COMMITTED"}
    return create_engine(
        url, connect_args=connect, hide_parameters=True, pool_size=POOL, max_overflow=0, pool_timeout=WAIT_SECONDS,
        pool_use_lifo=True,  # the connection that was used last has the pages that are wanted next
        **postgres if url.drivername != "sqlite" else {},
    )  # fmt: skip


def store_url(place: Path | str) -> URL:
    """The database at `place`, which may hold a password and is therefore never shown as it was given.

        faces.db                                        a SQLite file
        sqlite:///faces.db, sqlite:////srv/faces.db     the same, as a URL; four slashes begin an absolute path
        postgresql+psycopg://user@host/database         PostgreSQL; `postgresql://` means the same

    libpq reads a password from `PGPASSWORD` or `~/.pgpass`, where no list of processes shows it.

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
