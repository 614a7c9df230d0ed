"""The tables of the key file; `migrations` holds the steps that lead here from every earlier layout."""

from pathlib import Path

from sqlalchemy import Column, Integer, MetaData, Table

from edge_stscq.server.sealing import migrations
from edge_stscq.server.storage.layout import Layout
from edge_stscq.server.storage.tables import Binary, real, whole

metadata = MetaData()
LAYOUT = Layout(
    metadata, steps=Path(migrations.__file__).parent, application_id=int.from_bytes(b"STSL"),
    noun="the keys of a sealed store", option="--seal-keys", journal_mode="WAL", read_only=False,
)  # fmt: skip

keys = Table(
    "keys",
    metadata,
    Column("stream", Binary, primary_key=True),
    Column("sequence", whole, primary_key=True),
    Column("master", Integer, nullable=False),
    Column("wrapped", Binary, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""One data key a face, by its name: sealed under the master key `master`, about that name."""

masters = Table(
    "masters",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("salt", Binary, nullable=False),
    Column("verifier", Binary, nullable=False),
    Column("made", real, nullable=False),
    sqlite_strict=True,
)
"""Salt of the master key, by which it follows from the secret; two rows while a rotation is under way."""

state = Table(
    "state",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("file", Binary, nullable=False),
    Column("revision", whole, nullable=False),
    sqlite_strict=True,
)
"""One row: the file's id, which its store has, too, and the revision up to which erasures have taken their keys."""
