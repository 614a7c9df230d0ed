"""Statements given to the driver as they are.

What SQLAlchemy does around each execution takes longer than the database does, and a commit of a few frames has half a
dozen. Here a statement is compiled once, and its values go to the driver unchanged, so they must be of its own types.

PostgreSQL is another process: what is asked of it one by one waits for two changes of process each time. Statements
that do not hang on each other's answers are therefore given together, as one exchange (libpq's pipeline).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from types import MappingProxyType
from typing import Any, NamedTuple

from sqlalchemy import Connection, Executable, Table

from edge_stscq.server.storage.database import StoreError

_MOST_ROWS = 64
"""Rows of one statement in SQLite."""
_Text = tuple[str, tuple[str, ...] | None, Mapping[str, Any]]
_texts: dict[tuple[Executable, str], _Text] = {}
_types: dict[tuple[str, tuple[str, ...]], list[str]] = {}
"""PostgreSQL's names of the types of columns."""


class Statement(NamedTuple):
    """A statement that lasts as long as the program, and the values of its parameters."""

    statement: Executable
    values: Mapping[str, object] = MappingProxyType({})


def run_all(db: Connection, statements: Sequence[Statement]) -> list[list[tuple[Any, ...]]]:
    """Execute statements in this order, in one exchange with PostgreSQL; the rows that each of them gives.

    Raises:
        StoreError: one of them fails.
    """
    driver: Any = db.connection.driver_connection
    with _named_errors(db):
        if db.dialect.name == "sqlite":
            return [_rows(_executed(db, driver.cursor(), each), each) for each in statements]
        with driver.pipeline():
            cursors = [_executed(db, driver.cursor(), each) for each in statements]
        return [_rows(*each) for each in zip(cursors, statements, strict=True)]


def _executed(db: Connection, cursor: Any, each: Statement) -> Any:
    text, order, given = _compiled(db, each.statement)
    values = {**given, **each.values}
    cursor.execute(text, values if order is None else tuple(values[name] for name in order))
    return cursor


def _rows(cursor: Any, of: Statement) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = cursor.fetchall() if of.statement.is_select else []
    cursor.close()
    return rows


@contextmanager
def _named_errors(db: Connection) -> Iterator[None]:
    try:
        yield
    except db.dialect.loaded_dbapi.Error as error:
        raise StoreError(" ".join(str(error).split())) from None


def _compiled(db: Connection, statement: Executable) -> _Text:
    """Its text, the order of its parameters if they have no names there, and the values that it brings itself."""
    key = statement, db.dialect.name
    if key not in _texts:
        compiled: Any = statement.compile(dialect=db.dialect)  # type: ignore[attr-defined]
        order = tuple(compiled.positiontup) if compiled.positional else None
        _texts[key] = str(compiled), order, compiled.params
    return _texts[key]


def insert_rows(db: Connection, table: Table, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows, in PostgreSQL as a copy, in SQLite by statements of many rows.

    Python's SQLite lets go of the interpreter at each statement, and waits for whoever took it; rows that are inserted
    one by one each wait.

    Args:
        columns: names of the values of a row.

    Raises:
        StoreError: a row cannot be inserted.
    """
    names = ", ".join(map(db.dialect.identifier_preparer.quote, columns))
    if db.dialect.name != "sqlite":
        _copy(db, f"COPY {table.name} ({names}) FROM STDIN (FORMAT BINARY)", table, columns, rows)
        return
    row = f"({', '.join('?' * len(columns))})"
    done, some = 0, _MOST_ROWS
    while done < len(rows):
        if done + some > len(rows):  # sizes are powers of two, so that few statements are prepared
            some //= 2
            continue
        values = tuple(chain.from_iterable(rows[done : done + some]))
        db.exec_driver_sql(f"INSERT INTO {table.name} ({names}) VALUES {', '.join([row] * some)}", values)
        done += some


def _copy(db: Connection, text: str, table: Table, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    key = table.name, tuple(columns)
    if key not in _types:
        _types[key] = [str(table.c[name].type.compile(db.dialect)).lower() for name in columns]
    driver: Any = db.connection.driver_connection
    with _named_errors(db), driver.cursor() as cursor, cursor.copy(text) as copy:
        copy.set_types(_types[key])
        for row in rows:
            copy.write_row(row)
