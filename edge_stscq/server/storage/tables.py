"""The tables of the store, the same in SQLite and PostgreSQL.

`migrations` holds the steps that lead here from every earlier layout; a test compares the two.
"""

from pathlib import Path

from sqlalchemy import (
    REAL,
    BigInteger,
    Column,
    Dialect,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    func,
)
from sqlalchemy.types import TypeEngine

from edge_stscq.server.storage import migrations
from edge_stscq.server.storage.layout import Layout

whole = BigInteger().with_variant(Integer, "sqlite")
"""64 bits in both."""


class Binary(LargeBinary):
    """Bytes that both drivers take as they are; wrapping each is a tenth of a commit."""

    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> None:
        return None


real: TypeEngine[float] = Double().with_variant(REAL, "sqlite")

metadata = MetaData()
LAYOUT = Layout(
    metadata, steps=Path(migrations.__file__).parent / "versions", application_id=int.from_bytes(b"STSQ"),
    noun="the store", option="--store", journal_mode="WAL", read_only=False,
)  # fmt: skip

faces = Table(
    "faces",
    metadata,
    Column("row", whole, primary_key=True),
    Column("device", Text, nullable=False),
    Column("stream", Binary, nullable=False),
    Column("sequence", whole, nullable=False),
    Column("model", Binary, nullable=False),
    Column("coder", Binary, nullable=False),
    Column("kind", Integer, nullable=False),
    Column("clock", Integer, nullable=False),
    Column("captured", whole),
    Column("track", whole),
    Column("quality", Integer),
    Column("extensions", Binary, nullable=False),
    Column("layers", Integer, nullable=False),
    Column("payload", Binary, nullable=False),
    Column("checksum", whole, nullable=False),
    Column("received", real, nullable=False),
    Column("occurred", real, nullable=False),
    Column("revision", whole, nullable=False),
    Column("sealed", Integer, nullable=False, server_default="0"),
    UniqueConstraint("stream", "sequence", name="faces_stream_sequence"),
    Index("faces_revision", "revision", unique=True),
    Index("faces_device_row", "device", "row"),
    Index("faces_device_occurred", "device", "occurred"),
    Index("faces_received", "received"),
    Index("faces_occurred", "occurred"),
    sqlite_autoincrement=True,
    sqlite_strict=True,
)

devices = Table(
    "devices",
    metadata,
    Column("device", Text, primary_key=True),
    Column("faces", whole, nullable=False),
    Column("bytes", whole, nullable=False),
    Column("last_received", real, nullable=False),
    sqlite_strict=True,
)
"""Counts of the faces above, by device (see `device_counts`)."""

changes = Table(
    "changes",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("revision", whole, nullable=False),
    Column("overwrites", Integer, nullable=False),
    Column("seal", Binary),
    Column("sealed", Integer, nullable=False, server_default="0"),
    sqlite_strict=True,
)
"""One row: the last revision given. Whoever writes faces holds it until the commit.

`overwrites` is 1 in a file in whose free room nothing can be read: all that was removed there was overwritten.
`seal` is the id of the key file of a sealed store; `sealed` is 1 when all of it is sealed, and nothing is left in the
clear.
"""
SEALED_OVERHEAD = 36
"""Bytes by which a sealed payload is longer: its checksum, nonce and tag."""
payload_bytes = func.length(faces.c.payload) - SEALED_OVERHEAD * faces.c.sealed
"""Of a payload as it was sent."""

erased = Table(
    "erased",
    metadata,
    Column("stream", Binary, primary_key=True),
    Column("sequence", whole, primary_key=True),
    Column("device", Text, nullable=False),
    Column("at", real, nullable=False),
    Column("lasting", Integer, nullable=False),
    Column("revision", whole, nullable=False),
    Index("erased_revision", "revision", unique=True),
    sqlite_strict=True,
)
"""Names of faces that were erased, at a time in seconds since 1970 UTC. `lasting` is 1 of one that never comes back, 0
of one that was only too old."""

EVERY_DEVICE = "*"
"""In the place of a name; no device is called so."""
erased_times = Table(
    "erased_times",
    metadata,
    Column("device", Text, primary_key=True),
    Column("since", real, primary_key=True),
    Column("until", real, primary_key=True),
    Column("at", real, nullable=False),
    sqlite_strict=True,
)
"""Times of which all that a device saw was erased, at a time in seconds since 1970 UTC: faces that occurred since the
one and before the other have no name here that could be kept, while they wait on the device."""

visits = Table(
    "visits",
    metadata,
    Column("id", whole, primary_key=True, autoincrement=False),
    Column("device", Text, nullable=False),
    Column("stream", Binary, nullable=False),
    Column("track", whole),
    Column("model", Binary, nullable=False),
    Column("began", real, nullable=False),
    Column("ended", real, nullable=False),
    Column("person", whole, nullable=False),
    Column("changed", whole, nullable=False),
    Index("visits_began", "began", "id"),
    Index("visits_device_began", "device", "began", "id"),
    Index("visits_person", "person"),
    Index("visits_changed", "changed"),
    sqlite_strict=True,
)
"""Faces of one track, or alike and close in time. `began` never changes: it orders lists."""

visit_faces = Table(
    "visit_faces",
    metadata,
    Column("stream", Binary, primary_key=True),
    Column("sequence", whole, primary_key=True),
    Column("visit", whole, nullable=False),
    Index("visit_faces_visit", "visit"),
    sqlite_strict=True,
)
"""Visit of each face; it holds nothing that a face could be told by."""

persons = Table(
    "persons",
    metadata,
    Column("id", whole, primary_key=True, autoincrement=False),
    Column("name", Text),
    Column("hidden", Integer, nullable=False),
    Column("edited", Integer, nullable=False),
    Column("feature_stream", Binary),
    Column("feature_sequence", whole),
    Column("changed", whole, nullable=False),
    Index("persons_changed", "changed"),
    sqlite_strict=True,
)
"""People whom visits are of. `edited` is 1 of one that somebody changed by hand: it is not taken up into another."""

enrollments = Table(
    "enrollments",
    metadata,
    Column("id", whole, primary_key=True, autoincrement=False),
    Column("person", whole, nullable=False),
    Column("model", Binary, nullable=False),
    Column("layers", Integer, nullable=False),
    Column("payload", Binary, nullable=False),
    Column("quality", Integer, nullable=False),
    Column("at", real, nullable=False),
    Index("enrollments_person", "person"),
    sqlite_strict=True,
)
"""Coded photographs by which people on the watch list are known; none of the pictures."""

edits = Table(
    "edits",
    metadata,
    Column("id", whole, primary_key=True, autoincrement=False),
    Column("at", real, nullable=False),
    Column("what", Text, nullable=False),
    Column("before", Text, nullable=False),
    Column("undone", Integer, nullable=False),
    sqlite_strict=True,
)
"""Edits of persons by hand, and as JSON the state before: it goes with the last of these persons."""

edit_persons = Table(
    "edit_persons",
    metadata,
    Column("edit", whole, primary_key=True, autoincrement=False),
    Column("person", whole, primary_key=True, autoincrement=False),
    Index("edit_persons_person", "person"),
    sqlite_strict=True,
)

gone = Table(
    "gone",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("id", whole, primary_key=True, autoincrement=False),
    Column("changed", whole, nullable=False),
    Index("gone_changed", "changed"),
    sqlite_strict=True,
)
"""Visits and persons that are not any more, for whoever follows them."""

grouping = Table(
    "grouping",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("revision", whole, nullable=False),
    Column("changed", whole, nullable=False),
    Column("made", whole, nullable=False),
    Column("passed", whole, nullable=False),
    sqlite_strict=True,
)
"""One row: the revision of the faces up to which all are in visits, the last change of visits and persons, the last
number given to one, and how many faces of unknown people a watch list let pass. Whoever changes visits holds it until
the commit."""
