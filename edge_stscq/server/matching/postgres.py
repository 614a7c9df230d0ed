"""Index of a model's stored faces in PostgreSQL, by its extension `vector` (pgvector), searched exactly.

Vectors lie beside the faces (`tables`), and a search reads all of them in the database, so its answers are those of the
index in memory, as far as the rounding of float32 lets two sums be equal. An approximate index would be faster, and
would now and then miss the one person who is there: "nobody here" would be wrong at a rate that no threshold states.

A restarted server is ready at once, holds no vectors, and all servers of a store share one index. Whoever adds to it
holds the row that counts revisions, as whoever writes faces does: no face is erased meanwhile.

Another projection or cohort of a model makes other vectors, and an index of its own.
"""

import threading
from collections.abc import Sequence
from typing import Any

from pgvector.psycopg import register_vector
from sqlalchemy import Connection, func, select

from edge_stscq.errors import EdgeError
from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.server.matching import tables
from edge_stscq.server.matching.vectors import FaceVectors, SearchHit, Taken
from edge_stscq.server.storage.database import StoreError
from edge_stscq.server.storage.driver_sql import insert_rows
from edge_stscq.server.storage.face_store import Change, face_name
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from edge_stscq.server.storage.tables import faces
from edge_stscq.stream.face import CodedFace

_COLUMNS = ("row", "half", "vector")


class PostgresIndex:
    """Open or begin the index of a model; safe to call from many threads, beside other servers.

    Args:
        model: whose faces it holds.
        store: in PostgreSQL, not sealed, in a database that has the extension.

    Attributes:
        revision: of the last change that it is known to have.

    Raises:
        EdgeError: it cannot be made.
    """

    def __init__(self, model: CatalogEntry, store: SqlFaceStore) -> None:
        self._store, self._lock = store, threading.Lock()
        vectors = FaceVectors(model)
        self._name = vectors.fingerprint
        try:
            with store.database.read() as db:
                bases = tables.bases_of(db, self._name)
            if bases is None:
                with store.writing() as (db, *_):
                    tables.begin(db, self._name, vectors.bases)
                    bases = tables.bases_of(db, self._name)
            self._vectors = FaceVectors(model, bases)
            self._tables = {prefix: tables.vector_table(self._name, prefix) for prefix in self._vectors.bases}
            self.revision = self._reached()
        except StoreError as error:
            raise EdgeError(
                f"{store.name} cannot hold the match index: {error}; grant the right to it, or set match_index = memory"
            ) from None
        self._counts: dict[str | None, int] = {}
        self._counted_at = -1

    def __len__(self) -> int:
        return self.count(None)

    def count(self, device: str | None) -> int:
        """Counted anew when something has changed; raises `StoreError` where that fails."""
        revision = self.revision
        with self._lock:
            if self._counted_at != revision:
                self._counts, self._counted_at = {}, revision
            if device in self._counts:
                return self._counts[device]
        table = self._tables[min(self._tables)]
        query = select(func.count()).select_from(table)
        if device is not None:
            query = query.where(table.c.row.in_(_rows_of(device)))
        with self._store.database.read() as db:
            count = int(db.execute(query).scalar_one())
        with self._lock:
            if self._counted_at == revision:
                self._counts[device] = count
        return count

    def add(self, changes: Sequence[Change]) -> None:
        """Take in changes, unless another server has; erased faces have left by themselves."""
        if not changes:
            return
        last = changes[-1].revision
        if (reached := self._reached()) < last:
            taken = self._vectors.take(changes)
            with self._store.writing() as (db, *_):
                reached = self._reached(db)
                if reached < last:
                    self._put(db, taken)
                    db.execute(tables.ADVANCE, {"of": self._name, "last": last})
        self.revision = max(reached, last)

    def search(
        self, face: CodedFace, limit: int, device: str | None = None, min_cosine: float = -1.0
    ) -> list[SearchHit]:
        """As `MatchIndex` says; raises `StoreError` where the database fails."""
        query = self._vectors.query(face)
        table = self._tables[query.prefix]
        cosine = -table.c.vector.max_inner_product(query.vector)
        score = cosine - table.c.half
        found = select(table.c.row, cosine.label("cosine"), score.label("score"))
        if min_cosine > -1:
            found = found.where(cosine >= min_cosine)
        if device is not None:
            found = found.where(table.c.row.in_(_rows_of(device)))
        best = found.order_by(score.desc(), table.c.row).limit(limit).subquery()
        named = (
            select(faces.c.device, faces.c.stream, faces.c.sequence, best.c.cosine, best.c.score)
            .join(best, best.c.row == faces.c.row)
            .order_by(best.c.score.desc(), best.c.row)
        )
        with self._store.database.read() as db:
            return [
                SearchHit(
                    face_name(str(name), bytes(stream), number),
                    min(max(float(alike), -1.0), 1.0), float(judged) - query.density / 2,
                )
                for name, stream, number, alike, judged in db.execute(named)
            ]  # fmt: skip

    def _reached(self, db: Connection | None = None) -> int:
        """The revision up to which the index is complete."""
        if db is None:
            with self._store.database.read() as reading:
                return self._reached(reading)
        found: int | None = db.execute(tables.REVISION, {"of": self._name}).scalar_one_or_none()
        if found is None:
            raise StoreError("the match index was removed; start the server again")
        return found

    def _put(self, db: Connection, taken: Taken) -> None:
        """Write vectors of faces that are still as they were taken; what has changed since comes again."""
        revisions = [face.revision for face in taken.faces]
        query = select(faces.c.revision, faces.c.row).where(faces.c.revision.in_(revisions))
        rows: dict[int, int] = {revision: row for revision, row in db.execute(query)}
        driver: Any = db.connection.driver_connection
        register_vector(driver)
        for prefix, (vectors, densities) in taken.vectors.items():
            table = self._tables[prefix]
            having = [at for at, layers in enumerate(taken.layers) if layers >= prefix]
            new = [
                (rows[revisions[at]], float(density) / 2, vector)
                for at, vector, density in zip(having, vectors, densities, strict=True) if revisions[at] in rows
            ]  # fmt: skip
            db.execute(table.delete().where(table.c.row.in_([row for row, *_ in new])))
            insert_rows(db, table, _COLUMNS, new)


def _rows_of(device: str) -> Any:
    return select(faces.c.row).where(faces.c.device == device)
