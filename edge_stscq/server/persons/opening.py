"""Visits and persons of a store, opened beside its servers or without any."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edge_stscq.errors import EdgeError
from edge_stscq.server.persons.editing import PersonStore
from edge_stscq.server.storage.database import StoreError, sqlite_path, store_url
from edge_stscq.server.storage.sql_face_store import SqlFaceStore

if TYPE_CHECKING:
    from edge_stscq.server.sealing.face_seal import FaceSeal


@contextmanager
def open_persons(
    place: Path | str, seal: str | None = None, seal_keys: Path | None = None, *, make: bool = False
) -> Iterator[PersonStore]:  # fmt: skip
    """Visits and persons of a store until the block ends; running servers follow what is changed.

    What a program changes here is in no audit log but its own.

    Args:
        place: path or URL of the store, as `serve --store` takes it.
        seal, seal_keys: of a sealed store, as of `serve`.
        make: make a SQLite file that is not there.

    Raises:
        EdgeError: there is no store, or it cannot be used, or its secret or key file.

    Example:
        >>> with es.server.open_persons("faces.db") as people:
        ...     for visit in people.visits(20):
        ...         print(visit.began, visit.device, visit.person)
        ...     people.name(7, "Ada")
        Edited(edit=12, person=7)
    """
    path = sqlite_path(store_url(place))
    if path is not None and not make and not path.exists():
        raise EdgeError(f"there is no store {path}; give its path with --store")
    try:
        with closing(SqlFaceStore(place, _seal(place, seal, seal_keys))) as opened:
            yield PersonStore(opened)
    except StoreError as error:
        raise EdgeError(f"the store failed: {error}; run this again") from None


def _seal(place: Path | str, source: str | None, keys: Path | None) -> "FaceSeal | None":
    if source is None and keys is None:
        return None
    from edge_stscq.server.sealing.face_seal import open_seal

    return open_seal(source, keys, place)
