"""Selections of stored faces, by name, stream, device and time, for whoever erases or exports them."""

from collections.abc import Iterator
from dataclasses import dataclass

from edge_stscq.errors import EdgeError
from edge_stscq.server.storage.face_store import FaceStore, StoredFace

PAGE = 1000


@dataclass(frozen=True)
class Selection:
    """All faces that meet every condition that is given.

    Attributes:
        ids: names of faces.
        stream: id of a stream, in hexadecimal.
        device: name of a device.
        since, until: occurred at or after, and before, seconds since 1970 UTC.
    """

    ids: tuple[str, ...] = ()
    stream: str | None = None
    device: str | None = None
    since: float | None = None
    until: float | None = None

    @property
    def empty(self) -> bool:
        """True if nothing is asked for, so that all faces are meant."""
        return self == Selection()

    @property
    def is_all_of_a_time(self) -> bool:
        """True if no more is asked than when faces occurred, or on which device."""
        return not self.empty and not self.ids and self.stream is None

    def find(self, store: FaceStore) -> Iterator[StoredFace]:
        """The faces; those that are asked for by name in that order, others as they came.

        Raises:
            EdgeError: there is no face of a name.
            StoreError: the store cannot be used.
        """
        found = self._named(store) if self.ids else self._all(store)
        return (face for face in found if self._holds(face))

    def _named(self, store: FaceStore) -> Iterator[StoredFace]:
        for face_id in self.ids:
            face = store.find(face_id)
            if face is None:
                raise EdgeError(f"there is no face {face_id} in {store.name}")
            yield face

    def _all(self, store: FaceStore) -> Iterator[StoredFace]:
        after = -(2**63)
        while rows := store.page(after, PAGE, self.device):
            yield from rows
            after = rows[-1].row

    def _holds(self, face: StoredFace) -> bool:
        return (
            self.stream in (None, face.stream.hex())
            and self.device in (None, face.device)
            and (self.since is None or face.occurred >= self.since)
            and (self.until is None or face.occurred < self.until)
        )
