"""Counts of every device's faces, kept in the transaction that changes them: what they tell costs no look at the faces.

Counting a store means reading all of it, so `/metrics` and the list of devices would be as slow as the store is large.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, func, literal, select, text, union_all

from edge_stscq.server.storage.driver_sql import Statement
from edge_stscq.server.storage.tables import devices, faces, payload_bytes
from edge_stscq.stream.frame import FRAME_OVERHEAD

_SIZE = payload_bytes + FRAME_OVERHEAD
_COUNTED = select(faces.c.device, func.count(), func.sum(_SIZE), func.max(faces.c.received)).group_by(faces.c.device)
_ADD = text(
    "INSERT INTO devices (device, faces, bytes, last_received) VALUES (:name, :faces, :bytes, :received) "
    "ON CONFLICT (device) DO UPDATE SET "
    "faces = devices.faces + excluded.faces, bytes = devices.bytes + excluded.bytes, "
    "last_received = CASE WHEN excluded.last_received > devices.last_received THEN excluded.last_received "
    "ELSE devices.last_received END"
)
_NEWEST = (
    select(faces.c.received).where(faces.c.device == bindparam("name")).order_by(faces.c.row.desc()).limit(1)
)  # fmt: skip
_REMOVE = (
    devices.update()
    .where(devices.c.device == bindparam("name"))
    .values(
        faces=devices.c.faces - bindparam("gone"), bytes=devices.c.bytes - bindparam("freed"),
        last_received=func.coalesce(_NEWEST.scalar_subquery(), 0.0),
    )
)  # fmt: skip


@dataclass
class Change:
    """Sum of all that a transaction adds to one device, or takes from it."""

    faces: int = 0
    bytes: int = 0
    received: float = 0.0


class Changes(defaultdict[str, Change]):
    """Changes by device."""

    def __init__(self) -> None:
        super().__init__(Change)

    def add(self, device: str, payload: bytes, received: float) -> None:
        """One face more."""
        change = self[device]
        change.faces += 1
        change.bytes += len(payload) + FRAME_OVERHEAD
        change.received = max(change.received, received)

    def remove(self, device: str, size: int) -> None:
        """One face less.

        Args:
            size: bytes of its payload.
        """
        change = self[device]
        change.faces -= 1
        change.bytes -= size + FRAME_OVERHEAD


def adding(changes: Mapping[str, Change]) -> list[Statement]:
    """Statements that count faces that came, and what others grew by."""
    return [
        Statement(_ADD, {"name": name, "faces": change.faces, "bytes": change.bytes, "received": change.received})
        for name, change in sorted(changes.items())
    ]


def remove(db: Connection, changes: Mapping[str, Change]) -> None:
    """Count faces that went; they are not among the faces any more. A device that has none left goes, too.

    A row that was damaged may name a device that never was, and then all are counted anew.
    """
    if changes:
        known = set(db.execute(select(devices.c.device).where(devices.c.device.in_(list(changes)))).scalars())
        if changes.keys() - known:
            recount(db)
            return
        db.execute(
            _REMOVE,
            [{"name": name, "gone": -change.faces, "freed": -change.bytes} for name, change in sorted(changes.items())],
        )
        db.execute(devices.delete().where(devices.c.faces <= 0))


def recount(db: Connection, names: Collection[str] | None = None) -> None:
    """Count the faces of these devices anew, or all."""
    if names is not None and not names:
        return
    counted, old = _COUNTED, devices.delete()
    if names is not None:
        counted, old = counted.where(faces.c.device.in_(names)), old.where(devices.c.device.in_(names))
    db.execute(old)
    db.execute(devices.insert().from_select(["device", "faces", "bytes", "last_received"], counted))


def wrong_counts(db: Connection) -> list[str]:
    """Devices whose counts are not those of their faces; reads every face, in one statement and so at one moment."""
    kept = select(literal(1), devices.c.device, devices.c.faces, devices.c.bytes)
    there = select(literal(0), faces.c.device, func.count(), func.sum(_SIZE)).group_by(faces.c.device)
    found: tuple[dict[str, tuple[int, int]], ...] = ({}, {})
    for side, name, count, size in db.execute(union_all(kept, there)):
        found[side][str(name)] = count, int(size)
    return sorted(name for name in found[0].keys() | found[1].keys() if found[0].get(name) != found[1].get(name))


def totals(db: Connection) -> Iterable[tuple[str, int, int, float]]:
    """Name, faces, bytes and last arrival of every device, by name."""
    return (
        (str(name), int(count), int(size), float(last or 0.0))
        for name, count, size, last in db.execute(select(devices).order_by(devices.c.device))
    )
