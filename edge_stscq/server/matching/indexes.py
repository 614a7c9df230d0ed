"""Indexes of the stored faces, one for each model, that follow the store.

Models are not compared with each other. An index lies in memory (`memory`), or in the PostgreSQL that keeps the faces
(`postgres`); the answers are the same.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Protocol, TypeGuard

from sqlalchemy import text

from edge_stscq.errors import EdgeError, require
from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.server.matching.memory import FaceIndex
from edge_stscq.server.matching.vectors import SearchHit
from edge_stscq.server.settings import ServerSettings
from edge_stscq.server.storage.change_feed import PAGE, ChangeFeed
from edge_stscq.server.storage.database import StoreError
from edge_stscq.server.storage.face_store import Change, FaceStore
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from edge_stscq.stream.face import CodedFace

log = logging.getLogger(__name__)

_EXTENSION = text("SELECT 1 FROM pg_extension WHERE extname = 'vector'")
RETRY_SECONDS = 1.0
"""Seconds after which a store that failed is read again."""
REST_SECONDS = 0.2
"""Seconds from one addition to an index in a database to the next: each is a commit beside which nobody writes faces,
so a busy server adds by the dozen."""


class MatchIndex(Protocol):
    """Stored faces of one model, found by example.

    Attributes:
        revision: of the last change that was added.
    """

    revision: int

    def __len__(self) -> int:
        """Faces that can be found."""

    def count(self, device: str | None) -> int:
        """Faces that can be found of one device, or of all."""

    def add(self, changes: Sequence[Change]) -> None:
        """Take in what came, grew or went, in the order of its revisions; faces of other models are passed over."""

    def search(
        self, face: CodedFace, limit: int, device: str | None = None, min_cosine: float = -1.0
    ) -> list[SearchHit]:
        """The faces most like `face`, best first, by all the layers that it has.

        Args:
            face: faces of fewer layers are not compared, unless the missing ones bring no identity tokens.
            limit: most faces.
            device: only faces of this one.
            min_cosine: only faces at least so much alike.
        """


class FaceIndexes:
    """One index for each model, by model id.

    Attributes:
        rest: seconds from one addition of few changes to the next.
    """

    def __init__(self, of: Mapping[bytes, MatchIndex], rest: float = 0.0) -> None:
        self._of, self.rest = dict(of), rest

    @classmethod
    def in_memory(cls, models: Iterable[CatalogEntry], capacity: int | None = None) -> "FaceIndexes":
        """Empty ones, of `capacity` faces each at most."""
        return cls({model.model_id: FaceIndex(model, capacity) for model in models})

    def __len__(self) -> int:
        """Faces that can be found, of all models."""
        return sum(map(len, self._of.values()))

    @property
    def revision(self) -> int:
        """Of the last change that was added to all of them."""
        return min(index.revision for index in self._of.values())

    def of(self, model_id: bytes) -> MatchIndex:
        """The index of a model."""
        return self._of[model_id]

    def add(self, changes: Sequence[Change]) -> None:
        """Take in changes, in the order of their revisions."""
        for index in self._of.values():
            index.add(changes)


def open_indexes(models: Iterable[CatalogEntry], store: FaceStore, settings: ServerSettings) -> FaceIndexes:
    """Indexes where the settings want them: in the store's PostgreSQL, or in memory.

    Raises:
        EdgeError: they are wanted in a database, and it cannot hold them.
    """
    try:
        if not _in_database(store, settings):
            return FaceIndexes.in_memory(models, settings.match_faces)
    except StoreError as error:
        raise EdgeError(
            f"{store.name} has no pgvector: {error}; install its extension vector, or set match_index = memory"
        ) from None
    require("pgvector", "postgres")
    from edge_stscq.server.matching.postgres import PostgresIndex

    log.info("faces are found by pgvector in %s", store.name)
    return FaceIndexes({model.model_id: PostgresIndex(model, store) for model in models}, REST_SECONDS)


def _in_database(store: FaceStore, settings: ServerSettings) -> TypeGuard[SqlFaceStore]:
    """True if the indexes belong into the store's database, which has the extension then."""
    asked = settings.match_index == "pgvector"
    if settings.match_index == "memory" or not (asked or settings.match_faces is None):
        return False
    if asked and settings.match_faces is not None:
        raise EdgeError("match_faces bounds an index in memory; leave it out, or set match_index = memory")
    if not isinstance(store, SqlFaceStore) or not store.database.is_postgres:
        if asked:
            raise EdgeError("match_index = pgvector takes faces in PostgreSQL; give such a --store, or leave it out")
        return False
    if store.seal is not None:
        from edge_stscq.server.sealing.face_seal import refuse_index_on_disk

        if asked:
            refuse_index_on_disk(store.seal, "match_index = pgvector")
        return False
    with store.database.read() as db:
        found = db.execute(_EXTENSION).first() is not None
    if asked and not found:
        with store.writing() as (db, *_):
            db.execute(text("CREATE EXTENSION IF NOT EXISTS vector"))
    return asked or found


async def follow_changes(index: FaceIndexes, feed: ChangeFeed, capacity: int | None) -> None:
    """Fill the indexes with all faces, or the newest, and keep them up to date; runs until it is cancelled."""
    after = 0 if capacity is None else await feed.start(None, capacity)
    while True:
        try:
            async for faces in feed.changes(max(after, index.revision)):
                await asyncio.to_thread(index.add, faces)
                if len(faces) < PAGE:
                    await asyncio.sleep(index.rest)
        except Exception as error:
            log.error("the index of faces cannot be kept up to date now: %s", error)
            await asyncio.sleep(RETRY_SECONDS)


@asynccontextmanager
async def following(index: FaceIndexes, feed: ChangeFeed, capacity: int | None) -> AsyncIterator[None]:
    """Run `follow_changes` until the block ends."""
    task = asyncio.create_task(follow_changes(index, feed, capacity), name="index")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
