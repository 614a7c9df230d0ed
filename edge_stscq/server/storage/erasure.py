"""Erased faces in SQL: rows that go, names that stay, and the room they leave.

A name is kept so that further layers, which may wait on a camera for days, do not bring a face back, and so that
whoever follows the store learns of it. Names of faces that were merely too old are forgotten after `REMEMBERED`.

Faces that never came have no name here. Where all that a device saw in some time was erased, that time is kept: what
its spool brings of it later is refused.

SQLite overwrites what it removes (`secure_delete`), in the file and through its log, once the log has been taken in.
PostgreSQL leaves removed rows to its vacuum; its archives are its operator's.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, Select, and_, bindparam, case, or_, select

from edge_stscq.server.storage import device_counts, visit_rows
from edge_stscq.server.storage.driver_sql import Statement, run_all
from edge_stscq.server.storage.face_store import ErasedFace, FaceName
from edge_stscq.server.storage.tables import erased, erased_times, faces, payload_bytes
from edge_stscq.stream.envelope import Clock

REMEMBERED = 7 * 86400.0
"""Seconds for which the name of a face that was too old is kept: followers are not away for longer."""
MANY = 500
"""Numbers in a query; databases bound them."""

_ROWS = faces.delete().where(faces.c.stream == bindparam("of"), faces.c.sequence == bindparam("number"))
_OLD_NAME = erased.delete().where(erased.c.stream == bindparam("of"), erased.c.sequence == bindparam("number"))
_FORGOTTEN = erased.delete().where(erased.c.lasting == 0, erased.c.at < bindparam("before"))
ANY = Statement(select(erased.c.revision).limit(1))
"""A row if any name is kept."""
TIMES = Statement(select(erased_times.c.device, erased_times.c.since, erased_times.c.until))

Item = TypeVar("Item")


def chunks(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """At most `MANY` of them at a time."""
    return (items[at : at + MANY] for at in range(0, len(items), MANY))


def erased_among(db: Connection, numbers: Mapping[bytes, Iterable[int]]) -> set[tuple[bytes, int]]:
    """Names of these, by stream, that never come back."""
    found = set()
    for stream, wanted in numbers.items():
        for some in chunks(sorted(wanted)):
            query = select(erased.c.sequence).where(
                erased.c.stream == stream, erased.c.sequence.in_(some), erased.c.lasting == 1
            )
            found |= {(stream, number) for number in db.execute(query).scalars()}
    return found


def erased_times_of(db: Connection) -> dict[str, list[tuple[float, float]]]:
    """Times of which all faces were erased, by device."""
    return times_by_device(*run_all(db, [TIMES]))


def times_by_device(rows: Iterable[Sequence[Any]]) -> dict[str, list[tuple[float, float]]]:
    """Times of which all faces were erased, by device, from the rows of `TIMES`."""
    times: dict[str, list[tuple[float, float]]] = {}
    for device, since, until in rows:
        times.setdefault(device, []).append((since, until))
    return times


def keep_away(db: Connection, device: str, since: float, until: float) -> None:
    """Note that all of a device, or of `EVERY_DEVICE`, that occurred since the one time and before the other is erased.

    Times within it, that were noted before, go.
    """
    of_device = erased_times.c.device == device
    db.execute(erased_times.delete().where(of_device, erased_times.c.since >= since, erased_times.c.until <= until))
    values = {"device": device, "since": since, "until": until, "at": time.time()}
    db.execute(erased_times.insert().values(values))


def erase_rows(db: Connection, names: Sequence[FaceName], last: int, lasting: bool) -> int:
    """Remove the faces that are there, and keep their names with the revisions after `last`; how many there were."""
    devices: dict[FaceName, str] = {}
    counted = device_counts.Changes()
    for stream in {name.stream for name in names}:
        for some in chunks(sorted(name.number for name in names if name.stream == stream)):
            query = select(faces.c.sequence, faces.c.device, payload_bytes).where(
                faces.c.stream == stream, faces.c.sequence.in_(some)
            )
            for number, device, size in db.execute(query):
                devices[FaceName(stream, number)] = device
                counted.remove(device, size)
    if not devices:
        return 0
    bound = [{"of": name.stream, "number": name.number} for name in devices]
    db.execute(_ROWS, bound)
    device_counts.remove(db, counted)
    visit_rows.leave(db, list(devices))
    db.execute(_OLD_NAME, bound)
    now = time.time()
    db.execute(
        erased.insert(),
        [
            {
                "stream": name.stream, "sequence": name.number, "device": str(device), "at": now,
                "lasting": int(lasting), "revision": last + at,
            }
            for at, (name, device) in enumerate(devices.items(), 1)
        ],
    )  # fmt: skip
    db.execute(_FORGOTTEN, {"before": now - REMEMBERED})
    return len(devices)


def erased_since(db: Connection, after: int, limit: int, device: str | None) -> list[ErasedFace]:
    """At most `limit` erasures after revision `after`, in order."""
    columns = (erased.c.device, erased.c.stream, erased.c.sequence, erased.c.revision)
    query = select(*columns).where(erased.c.revision > after).order_by(erased.c.revision).limit(limit)
    if device is not None:
        query = query.where(erased.c.device == device)
    return [ErasedFace(str(name), bytes(stream), number, at) for name, stream, number, at in db.execute(query)]


def erased_without_face(db: Connection, after: int) -> list[FaceName]:
    """Names that were erased after revision `after`, but for faces that came again."""
    again = and_(faces.c.stream == erased.c.stream, faces.c.sequence == erased.c.sequence)
    query = select(erased.c.stream, erased.c.sequence).where(erased.c.revision > after)
    return [
        FaceName(bytes(stream), number)
        for stream, number in db.execute(query.where(~select(faces.c.row).where(again).exists()))
    ]


def older_than(query: Select[Any], before: float) -> Select[Any]:
    """Rows whose time is before: of capture by a clock that was right, and of arrival otherwise."""
    trusted = faces.c.clock == Clock.SYNCHRONIZED
    # The first condition is what the indexes know; the second is the rule.
    return query.where(
        or_(faces.c.received < before, and_(trusted, faces.c.occurred < before)),
        case((trusted, faces.c.occurred), else_=faces.c.received) < before,
    )
