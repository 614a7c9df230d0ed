"""Accepted frames, in SQLite or PostgreSQL.

`accept` returns after a durable commit, so what the server acknowledges survives a power cut. A face is named by its
device and sequence number: a retry is recognised and answered as a duplicate, a frame that carries more layers of the
same face replaces the shorter one, and a different face under a number already taken is refused instead of being
dropped in silence.

Every new or extended face gets the next *revision*. Writers hold the row that counts them from their first statement to
their commit: one writes at a time, on whatever server, so faces appear in the order of their revisions (and rows), and
a reader who asks for what came after the last one it saw misses nothing. SQLite has no other way; in PostgreSQL a
sequence would let a later number commit first.
"""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, Select, bindparam, func, select, update

from edge_stscq.errors import EdgeError
from edge_stscq.server.database import Database
from edge_stscq.server.schema import changes, faces
from edge_stscq.server.store_url import store_url
from edge_stscq.server.tokens import DEVICE_NAME

MAX_SEQUENCE = 2**53 - 1
"""Largest sequence number: the largest integer that every JSON reader keeps exactly."""

Outcome = Literal["stored", "extended", "duplicate"]

_FACE = select(
    faces.c.row, faces.c.device, faces.c.sequence, faces.c.model, faces.c.layers, faces.c.frame, faces.c.received,
    faces.c.revision,
)  # fmt: skip
_NAME = re.compile(rf"({DEVICE_NAME})-(0|[1-9][0-9]{{0,15}})")
_LAST = select(changes.c.revision).with_for_update()
_KNOWN = _FACE.where(
    faces.c.device == bindparam("device"), faces.c.sequence.between(bindparam("first"), bindparam("last"))
)
_EXTEND = (
    update(faces)
    .where(faces.c.row == bindparam("at"))
    .values(layers=bindparam("layers"), frame=bindparam("frame"), revision=bindparam("revision"))
)


class ConflictError(EdgeError):
    """Another face is stored under this device and sequence number."""


@dataclass(frozen=True, slots=True)
class NewFrame:
    """A checked frame: its bytes as they arrived and the number of layers in it."""

    frame: bytes
    layers: int


@dataclass(frozen=True, slots=True)
class StoredFace:
    """One row.

    Attributes:
        row: orders faces by arrival.
        received: seconds since 1970 UTC.
        revision: orders faces by their last change; above that of every earlier change of any face.
    """

    row: int
    device: str
    sequence: int
    model: bytes
    layers: int
    frame: bytes
    received: float
    revision: int

    @property
    def id(self) -> str:
        return f"{self.device}-{self.sequence}"


class FaceStore:
    """Open or create the store at `place` (a path or a URL, see `store_url`); safe to call from many threads.

    Every method but `close` raises `StoreError` while the database cannot be used.

    Raises:
        EdgeError: it cannot be opened, is not such a store, is of a newer version, or cannot be written.
    """

    def __init__(self, place: Path | str) -> None:
        self._database = Database(store_url(place))
        self.name = self._database.name

    def accept(
        self,
        device: str,
        first: int,
        model: bytes,
        frames: Sequence[NewFrame],
        same_face: Callable[[bytes, bytes], bool],
    ) -> list[Outcome]:
        """Store `frames` as faces `device-first`, `device-(first + 1)`, ... in one durable transaction.

        Args:
            same_face: whether two frames of this model agree in the layers both have.

        Returns:
            What became of each frame, in order.

        Raises:
            ConflictError: a number is taken by another face; nothing was stored.
        """
        now = time.time()
        outcomes: list[Outcome] = []
        inserted: list[dict[str, Any]] = []
        extended: list[dict[str, Any]] = []
        with self._writing() as (db, last):
            revision = last
            known = {
                face.sequence: face
                for face in _read(db, _KNOWN, device=device, first=first, last=first + len(frames) - 1)
            }
            for sequence, new in enumerate(frames, first):
                old = known.get(sequence)
                if old is None:
                    revision += 1
                    inserted.append({
                        "device": device, "sequence": sequence, "model": model, "layers": new.layers,
                        "frame": new.frame, "received": now, "revision": revision,
                    })  # fmt: skip
                    outcomes.append("stored")
                elif old.model != model or not same_face(old.frame, new.frame):
                    highest = db.scalar(select(func.max(faces.c.sequence)).where(faces.c.device == device))
                    raise ConflictError(
                        f"{old.id} is already another face; the next free sequence number of {device} is {highest + 1}"
                    )
                elif new.layers > old.layers:
                    revision += 1
                    extended.append({"at": old.row, "layers": new.layers, "frame": new.frame, "revision": revision})
                    outcomes.append("extended")
                else:
                    outcomes.append("duplicate")
            if inserted:
                db.execute(faces.insert(), inserted)
            if extended:
                db.execute(_EXTEND, extended)
            if revision > last:
                db.execute(changes.update(), {"revision": revision})
        return outcomes

    def find(self, face_id: str) -> StoredFace | None:
        """The face named `<device>-<sequence>`, or None."""
        match = _NAME.fullmatch(face_id)
        if match is None:
            return None
        sequence = int(match[2])
        with self._database.read() as db:
            return next(_read(db, _KNOWN, device=match[1], first=sequence, last=sequence), None)

    def page(
        self,
        after: int,
        limit: int,
        device: str | None = None,
        since: float | None = None,
        until: float | None = None,
    ) -> list[StoredFace]:
        """At most `limit` faces that arrived after row `after`, oldest first.

        Args:
            device: of this device only.
            since, until: received at or after, and before, these seconds since 1970 UTC.
        """
        query = _FACE.where(faces.c.row > after).order_by(faces.c.row)
        if since is not None:
            query = query.where(faces.c.received >= since)
        if until is not None:
            query = query.where(faces.c.received < until)
        return self._some(query, limit, device)

    def changes(self, after: int, limit: int, device: str | None = None) -> list[StoredFace]:
        """At most `limit` faces, of one device if it is given, that are new or extended since revision `after`.

        They come in the order of their revisions, each as it is now. Asking again with the last one's revision goes on
        without a gap, whichever servers write.
        """
        return self._some(_FACE.where(faces.c.revision > after).order_by(faces.c.revision), limit, device)

    def count(self) -> int:
        with self._database.read() as db:
            return int(db.execute(select(func.count()).select_from(faces)).scalar_one())

    def check_writable(self) -> None:
        """Raise `StoreError` if a frame could not be stored now (locked, read-only or gone)."""
        with self._writing():
            pass

    def close(self) -> None:
        self._database.close()

    @contextmanager
    def _writing(self) -> Iterator[tuple[Connection, int]]:
        """A transaction beside which no other writes faces, and the last revision before it."""
        with self._database.write() as db:
            yield db, db.execute(_LAST).scalar_one()

    def _some(self, query: Select[Any], limit: int, device: str | None) -> list[StoredFace]:
        if device is not None:
            query = query.where(faces.c.device == device)
        with self._database.read() as db:
            return list(_read(db, query.limit(limit)))


def _read(db: Connection, query: Select[Any], **values: str | int) -> Iterator[StoredFace]:
    return (StoredFace(*found) for found in db.execute(query, values))
