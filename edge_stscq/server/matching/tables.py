"""Tables of match vectors in PostgreSQL, beside the faces that they are of.

They follow from the faces, so no step of the layout makes them: an index begins its own. A row of vectors goes with its
face in the same transaction, whoever erases it.
"""

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from pgvector.sqlalchemy import VECTOR
from sqlalchemy import (
    REAL,
    BigInteger,
    Column,
    Connection,
    ForeignKey,
    LargeBinary,
    MetaData,
    Table,
    Text,
    bindparam,
    inspect,
    select,
)
from sqlalchemy.dialects.postgresql import insert

from edge_stscq.server.storage.tables import faces

indexes = Table(
    "match_indexes",
    MetaData(),
    Column("name", Text, primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("bases", LargeBinary, nullable=False),
)
"""Indexes: up to which revision of the faces each is complete, and as safetensors the bases of its vectors, by prefix
of layers. Libraries and processors differ in the basis that they find of a space; what is stored keeps its own."""

REVISION = select(indexes.c.revision).where(indexes.c.name == bindparam("of"))
BASES = select(indexes.c.bases).where(indexes.c.name == bindparam("of"))
ADVANCE = indexes.update().where(indexes.c.name == bindparam("of")).values(revision=bindparam("last"))


def vector_table(name: str, prefix: int) -> Table:
    """Vectors of an index, of faces that have so many layers; `half` is half the density of a face."""
    return Table(
        f"match_{name}_{prefix}",
        MetaData(),
        Column("row", BigInteger, ForeignKey(faces.c.row, ondelete="CASCADE"), primary_key=True, autoincrement=False),
        Column("half", REAL, nullable=False),
        Column("vector", VECTOR(), nullable=False),
    )


def begin(db: Connection, name: str, bases: dict[int, NDArray[np.float32]]) -> None:
    """Make the tables of an index, unless they are there."""
    indexes.create(db, checkfirst=True)
    for prefix in bases:
        vector_table(name, prefix).create(db, checkfirst=True)
    data = safetensors.numpy.save({str(prefix): np.ascontiguousarray(basis) for prefix, basis in bases.items()})
    db.execute(insert(indexes).values(name=name, revision=0, bases=data).on_conflict_do_nothing())


def bases_of(db: Connection, name: str) -> dict[int, NDArray[np.float32]] | None:
    """Bases of an index; None of one that was never begun."""
    found = db.execute(BASES, {"of": name}).scalar_one_or_none() if inspect(db).has_table(indexes.name) else None
    if found is None:
        return None
    return {int(prefix): basis for prefix, basis in safetensors.numpy.load(bytes(found)).items()}


def drop_all(db: Connection) -> None:
    """Remove all indexes."""
    if inspect(db).has_table(indexes.name):
        for name, data in db.execute(select(indexes.c.name, indexes.c.bases)).all():
            for prefix in safetensors.numpy.load(bytes(data)):
                vector_table(name, int(prefix)).drop(db, checkfirst=True)
        indexes.drop(db)
