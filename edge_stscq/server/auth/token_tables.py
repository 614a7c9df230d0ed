"""The table of the token file; `migrations` holds the steps that lead here from every earlier layout.

The file keeps SQLite's rollback journal: between two commits it is whole by itself, so that it may be copied.
"""

from pathlib import Path

from sqlalchemy import Column, LargeBinary, MetaData, Table, Text

from edge_stscq.server.auth import migrations
from edge_stscq.server.storage.layout import Layout

metadata = MetaData()
LAYOUT = Layout(
    metadata, steps=Path(migrations.__file__).parent, application_id=int.from_bytes(b"STSK"), noun="the tokens",
    option="--tokens", journal_mode="DELETE", read_only=True,
)  # fmt: skip

tokens = Table(
    "tokens",
    metadata,
    Column("id", Text, primary_key=True),
    Column("hash", LargeBinary, nullable=False),
    Column("device", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("created", Text, nullable=False),
    Column("used", Text),
    Column("revoked", Text),
    Column("owner", Text),
    Column("expires", Text),
    sqlite_strict=True,
)
