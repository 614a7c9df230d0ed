"""Accepted frames in SQLite or PostgreSQL: the face store of a server.

`accept_all` returns after a durable commit, so what the server acknowledges survives a power cut. Writers hold the row
that counts revisions from their first statement to their commit: one writes at a time, on whatever server, so faces
appear in the order of their revisions (and rows), and a reader who asks for what came after the last one it saw misses
nothing. SQLite has no other way; in PostgreSQL a sequence would let a later number commit first.

Waiting for the disk is most of a commit, so whoever has several requests hands them over together: one transaction, one
wait, and an answer to each as if it had come alone.
"""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Select, and_, bindparam, case, func, or_, select, update
from sqlalchemy.exc import SQLAlchemyError

from edge_stscq.protocol import DEVICE_NAME
from edge_stscq.server.storage.database import Database, store_url
from edge_stscq.server.storage.face_store import (
    ConflictError,
    DeviceStats,
    FrameBatch,
    StoredFace,
    ValidatedFrame,
    WriteResult,
)
from edge_stscq.server.storage.tables import LAYOUT, changes, faces

_FACE = select(
    faces.c.row, faces.c.device, faces.c.sequence, faces.c.model, faces.c.layers, faces.c.frame, faces.c.received,
    faces.c.revision,
)  # fmt: skip
_NEW = 0
"""Row of a face that has none yet."""
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


class SqlFaceStore:
    """Open or create the store at `place` (a path or a URL, see `store_url`); `FaceStore` describes the methods.

    Raises:
        EdgeError: it cannot be opened, is not such a store, is of a newer version, or cannot be written.
    """

    def __init__(self, place: Path | str) -> None:
        self._database = Database(store_url(place), LAYOUT)
        self.name = self._database.name

    def accept(
        self,
        device: str,
        first: int,
        model: bytes,
        frames: Sequence[ValidatedFrame],
        same_face: Callable[[bytes, bytes], bool],
    ) -> list[WriteResult]:
        """`accept_all` for the arguments of one delivery.

        Raises:
            ConflictError: a number is taken by another face; nothing was stored.
        """
        (outcomes,) = self.accept_all([FrameBatch(device, first, model, frames, same_face)])
        if isinstance(outcomes, Exception):
            raise outcomes
        return outcomes

    def accept_all(self, deliveries: Sequence[FrameBatch]) -> list[list[WriteResult] | Exception]:
        """Store all in one transaction, durable when this returns."""
        with self._writing() as (db, last):
            ranges = [
                and_(faces.c.device == one.device, faces.c.sequence.between(one.first, one.last)) for one in deliveries
            ]
            known = {(face.device, face.sequence): face for face in _read(db, _FACE.where(or_(*ranges)))}
            changed: dict[tuple[str, int], StoredFace] = {}
            answers = [_decide(db, one, known, changed) for one in deliveries]
            numbered = list(enumerate(changed.values(), last + 1))
            inserted = [
                {
                    "device": face.device, "sequence": face.sequence, "model": face.model, "layers": face.layers,
                    "frame": face.frame, "received": face.received, "revision": revision,
                }
                for revision, face in numbered if face.row == _NEW
            ]  # fmt: skip
            extended = [
                {"at": face.row, "layers": face.layers, "frame": face.frame, "revision": revision}
                for revision, face in numbered
                if face.row != _NEW
            ]
            if inserted:
                db.execute(faces.insert(), inserted)
            if extended:
                db.execute(_EXTEND, extended)
            if numbered:
                db.execute(changes.update(), {"revision": last + len(numbered)})
        return answers

    def find(self, face_id: str) -> StoredFace | None:
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
        query = _FACE.where(faces.c.row > after).order_by(faces.c.row)
        if since is not None:
            query = query.where(faces.c.received >= since)
        if until is not None:
            query = query.where(faces.c.received < until)
        return self._some(query, limit, device)

    def changes(self, after: int, limit: int, device: str | None = None) -> list[StoredFace]:
        return self._some(_FACE.where(faces.c.revision > after).order_by(faces.c.revision), limit, device)

    def latest_revision(self) -> int:
        with self._database.read() as db:
            return int(db.execute(select(changes.c.revision)).scalar_one())

    def devices(self, since: float) -> list[DeviceStats]:
        """Statistics of every device; reads every face."""
        size, recent = func.length(faces.c.frame), faces.c.received >= since
        query = (
            select(
                faces.c.device, func.count(), func.sum(size), func.max(faces.c.received),
                func.sum(case((recent, 1), else_=0)), func.sum(case((recent, size), else_=0)),
            )
            .group_by(faces.c.device)
            .order_by(faces.c.device)
        )  # fmt: skip
        with self._database.read() as db:
            return [
                DeviceStats(name, count, int(total), last, int(late), int(late_total))
                for name, count, total, last, late, late_total in db.execute(query)
            ]

    def count(self) -> int:
        with self._database.read() as db:
            return int(db.execute(select(func.count()).select_from(faces)).scalar_one())

    def check_writable(self) -> None:
        """Take the writers' lock and leave it."""
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


def _decide(
    db: Connection,
    delivery: FrameBatch,
    known: dict[tuple[str, int], StoredFace],
    changed: dict[tuple[str, int], StoredFace],
) -> list[WriteResult] | Exception:
    """Decide what becomes of each frame, or why none is stored.

    Args:
        known: faces as they are, those of the deliveries before included; gains this one's.
        changed: what is to be written, without revisions.
    """
    now, outcomes = time.time(), list[WriteResult]()
    accepted: dict[tuple[str, int], StoredFace] = {}
    try:
        for sequence, new in enumerate(delivery.frames, delivery.first):
            old = known.get((delivery.device, sequence))
            if old is None:
                outcomes.append("stored")
            elif old.model != delivery.model or not delivery.same_face(old.frame, new.frame):
                highest = db.scalar(select(func.max(faces.c.sequence)).where(faces.c.device == delivery.device)) or 0
                free = 1 + max(highest, *(number for device, number in known if device == delivery.device))
                raise ConflictError(
                    f"{old.id} is already another face; the next free sequence number of {delivery.device} is {free}"
                )
            elif new.layers > old.layers:
                outcomes.append("extended")
            else:
                outcomes.append("duplicate")
                continue
            row, received = (old.row, old.received) if old else (_NEW, now)
            accepted[delivery.device, sequence] = StoredFace(
                row, delivery.device, sequence, delivery.model, new.layers, new.frame, received, 0
            )
    except SQLAlchemyError:
        raise
    except Exception as error:
        return error
    known.update(accepted)
    changed.update(accepted)
    return outcomes


def _read(db: Connection, query: Select[Any], **values: str | int) -> Iterator[StoredFace]:
    return (StoredFace(*found) for found in db.execute(query, values))
