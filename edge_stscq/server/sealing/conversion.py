"""A store sealed that was in the clear."""

import contextlib
from pathlib import Path

from sqlalchemy import select

from edge_stscq._progress import Progress, no_progress
from edge_stscq.errors import EdgeError, require
from edge_stscq.server.sealing.face_seal import FaceSeal
from edge_stscq.server.sealing.key_file import KeyFile
from edge_stscq.server.storage.database import Database, store_url
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from edge_stscq.server.storage.tables import LAYOUT, changes

BUNDLE = 500
"""Faces that are sealed in one transaction; writers get their turn between."""


def seal_store(place: Path | str, keys: Path, secret: bytes, progress: Progress = no_progress) -> int:
    """Seal a store that is in the clear, or make a sealed one; cut off, it goes on when it is run again.

    The key file is made if it is absent. Servers that have the store open store nothing more from the first moment on,
    until they are started again. Match vectors that a PostgreSQL holds are removed. At the end nothing is left in the
    clear in free pages and logs of the file.

    Args:
        progress: told how many faces were sealed.

    Returns:
        How many that were.

    Raises:
        EdgeError: the key file is another store's, hangs on another secret or cannot be written.
        StoreError: the store cannot be used.
    """
    with contextlib.closing(Database(store_url(place), LAYOUT)) as database, database.read() as db:
        seal_id = db.execute(select(changes.c.seal)).scalar_one()
    if seal_id is None and keys.exists():
        found = KeyFile(keys, secret)
        with contextlib.closing(found):
            if len(found):
                raise EdgeError(f"{keys} holds keys of another store; choose another --seal-keys")
    made = KeyFile(keys, secret) if keys.exists() or seal_id is not None else KeyFile.create(keys, secret)
    count = 0
    with contextlib.closing(SqlFaceStore(place, FaceSeal(made), converting=True)) as store:
        if store.database.is_postgres:
            require("pgvector", "postgres")
            from edge_stscq.server.matching.tables import drop_all

            with store.writing() as (db, *_):
                drop_all(db)
        while some := store.seal_some(BUNDLE):
            count += some
            progress(some)
        store.end_sealing()
    return count
