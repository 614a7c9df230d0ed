"""Marks of an owned file, and transactions that leave it whole."""

import sqlite3
from pathlib import Path

import pytest

from edge_stscq._sqlite import immediate_transaction, read_signature, sign


@pytest.fixture
def db(tmp_path: Path) -> sqlite3.Connection:
    return sqlite3.connect(tmp_path / "a.db", isolation_level=None)


def test_signature_of_a_new_file_is_blank_until_signed(db: sqlite3.Connection) -> None:
    assert read_signature(db).blank
    sign(db, 0x53504F4C, 3)
    db.execute("CREATE TABLE t (x)")
    assert read_signature(db) == (0x53504F4C, 3, 1)
    assert not read_signature(db).blank


def test_signature_of_another_program_s_tables_is_not_blank(db: sqlite3.Connection) -> None:
    db.execute("CREATE TABLE t (x)")
    assert not read_signature(db).blank


def test_immediate_transaction_rolls_back_what_fails(db: sqlite3.Connection) -> None:
    with immediate_transaction(db):
        db.execute("CREATE TABLE t (x)")

    def fail() -> None:
        with immediate_transaction(db):
            db.execute("INSERT INTO t VALUES (1)")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert db.execute("SELECT count(*) FROM t").fetchone() == (0,)
    assert not db.in_transaction
