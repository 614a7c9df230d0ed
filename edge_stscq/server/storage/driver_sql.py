"""Statements given to the driver as they are.

What SQLAlchemy does around each execution takes longer than the database does, and a commit of a few frames has half a
dozen. Here a statement is compiled once, and its values go to the driver unchanged, so they must be of its own types.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from sqlalchemy import Connection, CursorResult, Executable, Table

from edge_stscq.server.storage.database import StoreError

_MOST_ROWS = 64
"""Rows of one statement in SQLite."""
_Text = tuple[str, tuple[str, ...] | None, Mapping[str, Any]]
_texts: dict[tuple[Executable, str], _Text] = {}


def run(db: Connection, statement: Executable, **values: object) -> CursorResult[*tuple[Any, ...]]:
    """Execute a statement that lasts as long as the program."""
    text, order, given = _compiled(db, statement)
    values = {**given, **values}
    return db.exec_driver_sql(text, values if order is None else tuple(values[name] for name in order))


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
    types = [str(table.c[name].type.compile(db.dialect)).lower() for name in columns]
    driver: Any = db.connection.driver_connection
    try:
        with driver.cursor() as cursor, cursor.copy(text) as copy:
            copy.set_types(types)
            for row in rows:
                copy.write_row(row)
    except db.dialect.loaded_dbapi.Error as error:
        raise StoreError(" ".join(str(error).split())) from None
