"""Spool: faces on the device that no server has acknowledged yet.

A face gets a number that no other face of this spool ever had, also after a restart or a purge; the spool's stream and
the number are its name at the server. It waits as one or two frames: one with its basic layer and one with all layers,
so that the basic layers of all faces can travel before the further layers of any.

Device name and stream are the spool's own: its stream key is made with it, so a spool on a new card, or a second tool,
begins another stream and never meets these numbers.

Who sends takes a lease: no other process gets the same faces before it ends. Only an acknowledgement removes them, so a
sender may die at any moment; what it had is leased again later, and the server recognises what it has.

A frame that a server refuses is set aside with its face and the reason, so that nothing behind it waits; `retry` lets
it be sent again, `drop` removes it.

The size is bounded, and the newest face matters most. When there is no room, the oldest faces lose their further
layers; when none has any left, the oldest faces are dropped. Both are counted. Faces on lease are touched last.
"""

import sqlite3
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

from edge_stscq.client.lease import Lease, LeaseRun, Part, pack_frame
from edge_stscq.client.spool_file import WAIT, SpoolFile
from edge_stscq.errors import EdgeError, FrameError
from edge_stscq.protocol import MAX_SEQUENCE, Refused, RefusedFrame
from edge_stscq.stream.envelope import CapturedFace, stream_id

MAX_BYTES = 64 * 1024**2
"""Default bound: about 480,000 faces."""
LEAST_BYTES = 64 * 1024
"""A spool cannot be smaller."""
MAX_LEASE = 3600.0
"""Longest lease in seconds. One that would last longer was made before the clock went back, and has ended."""
MAX_LEASES = 64
"""Leases at one time, of all processes: what leases take on the disk is bounded, too."""

_LONGEST_CODE, _LONGEST_REASON = 64, 500
"""Characters of a server's words that are kept."""

_NOTHING_REFUSED: Mapping[int, RefusedFrame] = MappingProxyType({})

_HELD = f"until > :now AND until <= :now + {MAX_LEASE}"
_READY = "sequence NOT IN (SELECT sequence FROM refused)"
_FREE = f"NOT EXISTS (SELECT 1 FROM leases WHERE sequence BETWEEN first AND last AND {_HELD})"
_GONE = "sequence NOT IN (SELECT sequence FROM basics) AND sequence NOT IN (SELECT sequence FROM further)"
_ENVELOPE = "sequence, version, model, coder, kind, clock, captured, track, quality, extensions"
_PARTS: dict[Part, str] = {
    "base": f"SELECT {_ENVELOPE}, 'basics', frame FROM basics JOIN faces USING (sequence) WHERE true",
    "enhancement": f"""SELECT {_ENVELOPE}, 'further', frame FROM further JOIN faces USING (sequence)
        WHERE sequence NOT IN (SELECT sequence FROM basics)""",
    "all": f"""SELECT {_ENVELOPE}, iif(further.frame IS NULL, 'basics', 'further'),
        ifnull(further.frame, basics.frame)
        FROM faces LEFT JOIN basics USING (sequence) LEFT JOIN further USING (sequence)
        WHERE ifnull(further.frame, basics.frame) IS NOT NULL""",
}
"""Which of a face's frames is leased, the table it is in, and of which faces."""
_FRAME_OVERHEAD = 12
"""Bytes of a frame beside its payload, at most, and if it is not sealed."""


@dataclass(frozen=True)
class SpoolStatus:
    """Counters of a spool: faces that wait, and what became of all others since it was made.

    Attributes:
        next: sequence number of the next face.
        bytes, max_bytes: pages of the file in use, and the bound.
        waiting: faces; of these, `basic_waiting` have not sent their basic layer, `leased` are being sent, and
            `refused` are set aside, for reasons that `refusals` counts.
        oldest: when the oldest waiting face was captured, in seconds since 1970 UTC.
        taken: faces put.
        delivered: faces that the server has, if thinned at least their basic layer.
        dropped: faces removed for want of room.
        purged: faces removed by `purge` or `drop`, or because the server had erased them.
        thinned: faces that lost their further layers for want of room.
        damaged: frames removed because their checksum had changed.
        stream: id of the spool's stream in hexadecimal.
    """

    device: str
    next: int
    bytes: int
    max_bytes: int
    waiting: int
    basic_waiting: int
    leased: int
    oldest: float | None
    taken: int
    delivered: int
    dropped: int
    purged: int
    thinned: int
    damaged: int
    stream: str
    refused: int
    refusals: dict[str, int]


@dataclass(frozen=True)
class Refusal:
    """A face that is set aside: its number, and code and reason of the server."""

    number: int
    code: str
    reason: str


class Spool:
    """Open the spool at `path`, or make it if `device` is given. For one thread; any number of processes.

    Args:
        device: name of this device, 1 to 64 of `A-Z a-z 0-9 . _ -`.
        start: numbers below it are never given to a face.
        max_bytes: bound of the room, 64 KiB or more; as it was if None, 64 MiB at first.
        clock: seconds since 1970 UTC, the same in all processes.
        secret: of the device, with which all that waits is encrypted (docs/spool.md); a spool in the clear is sealed.
        wait_seconds: for another process that writes.

    Attributes:
        device: as given when it was made.
        key: of the spool's stream, 16 bytes; `stream_id` follows from it.

    Raises:
        SpoolUnavailableError: another process holds it for longer than is waited, or its disk is full.
        EdgeError: there is no spool, it is of another device or program or a newer version, it is damaged, or it cannot
            be written.

    Example:
        >>> with Spool("faces.spool", device="door-1") as spool, Sender("http://server:8377", "door-1") as sender:
        ...     spool.put(frame)
        ...     sender.drain(spool, budget="2kB/min")
    """

    def __init__(
        self,
        path: Path | str,
        device: str | None = None,
        *,
        start: int = 0,
        max_bytes: int | None = None,
        clock: Callable[[], float] = time.time,
        secret: bytes | None = None,
        wait_seconds: float = WAIT,
    ) -> None:
        if not 0 <= start <= MAX_SEQUENCE:
            raise EdgeError(f"the first face cannot have the number {start}; numbers are 0 to {MAX_SEQUENCE}")
        if max_bytes is not None and max_bytes < LEAST_BYTES:
            raise EdgeError(f"a spool of {max_bytes} bytes is too small; give it {LEAST_BYTES // 1024}KiB or more")
        self._clock = clock
        self._file = SpoolFile(Path(path), device, max_bytes or MAX_BYTES, secret, wait_seconds)
        try:
            self.device, self.key, most = self._file.with_reserve(lambda db: self._begin(db, start, max_bytes))
            self.stream_id = stream_id(self.key)
            self._file.shrink(most)
        except EdgeError:
            self._file.close()
            raise

    def _begin(self, db: sqlite3.Connection, start: int, max_bytes: int | None) -> tuple[str, bytes, int]:
        """Device, key and bound, to which the file is brought."""
        query = (
            "UPDATE state SET next = max(next, ?), max_bytes = ifnull(?, max_bytes) RETURNING device, key, max_bytes"
        )
        device, key, most = self._file.state(db, query, (start, max_bytes))
        if most < LEAST_BYTES:
            raise self._file.damaged(f"its bound is {most} bytes")
        while self._file.used(db) > most and self._evict(db):
            pass
        return device, key, most

    def __enter__(self) -> "Spool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def put(self, face: CapturedFace) -> int:
        """Keep one face, of one or two frames; it is on disk when this returns.

        Example:
            >>> with Spool("faces.spool", device="door-1") as spool:
            ...     spool.put(encoder.encode_frame(crop))


        Returns:
            Its number.

        Raises:
            EdgeError: these are not one or two frames with rising layers, a value is out of its range, they do not fit
                into the whole spool, or the disk failed; nothing was kept.
        """
        if len(face.payloads) not in (1, 2):
            raise EdgeError(f"a face waits as one or two frames, not as {len(face.payloads)}")
        size = sum(len(payload) + _FRAME_OVERHEAD for _, payload in face.payloads)
        with self._file.transaction() as db:
            query = "UPDATE state SET next = next + 1, taken = taken + 1 RETURNING next - 1, max_bytes"
            number, most = map(int, self._file.state(db, query))
            if number > MAX_SEQUENCE:
                raise EdgeError(f"this spool has given all numbers up to {MAX_SEQUENCE}; go on with a new spool")
            frames = face.frames(self.stream_id, self.device, number)
            captured = None if face.captured_ms is None else face.captured_ms / 1000
            row = (
                number, 2, face.model_id, face.coder_id, face.kind, face.clock, captured, face.track, face.quality,
                face.extensions,
            )  # fmt: skip
            while size < most:
                db.execute("SAVEPOINT face")
                db.execute("INSERT INTO faces VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
                for table, frame in zip(("basics", "further"), frames, strict=False):
                    data = pack_frame(frame)
                    if self._file.seal is not None:
                        data = self._file.seal.seal(data, self.stream_id, number, captured, table)
                    db.execute(f"INSERT INTO {table} VALUES (?, ?)", (number, data))
                if self._file.used(db) <= most:
                    return number
                db.execute("ROLLBACK TO face")
                if not self._evict(db):
                    break
            raise EdgeError(f"a face of {size} bytes does not fit into a spool of {most}; give it more room")

    def lease(
        self, count: int, seconds: float, max_bytes: float = float("inf"), full_frames_only: bool = False
    ) -> Lease | None:
        """Take up to `count` faces for `seconds`; None if none is free, or `MAX_LEASES` are held.

        Oldest first: the basic layers of all faces, then the further ones. With `full_frames_only`, each face with all
        its layers.

        Args:
            seconds: above 0, at most an hour.
            max_bytes: of the request's body; that of a single face may be longer.
        """
        if not 0 < seconds <= MAX_LEASE:
            raise EdgeError(f"a lease lasts up to {MAX_LEASE:.0f} seconds, not {seconds}")
        parts: tuple[Part, ...] = ("all",) if full_frames_only else ("base", "enhancement")

        def take(db: sqlite3.Connection) -> Lease | None:
            db.execute(f"DELETE FROM leases WHERE NOT ({_HELD})", self._now())
            (held,) = db.execute("SELECT count(*) FROM leases").fetchone()
            for part in parts if held < MAX_LEASES else ():
                lease = self._run(db, part, count, max_bytes)
                if lease is not None:
                    values = (lease.token, lease.first, lease.last, self._clock() + seconds)
                    db.execute("INSERT INTO leases VALUES (?, ?, ?, ?)", values)
                    return lease
            if not held:
                _remove_torn(db)
                if db.execute(f"SELECT EXISTS (SELECT 1 FROM faces WHERE {_READY})").fetchone()[0]:
                    raise self._file.damaged("faces wait that cannot be read")
            return None

        return self._file.with_reserve(take)

    def settle(
        self, lease: Lease, refused: Mapping[int, RefusedFrame] = _NOTHING_REFUSED, upto: int | None = None
    ) -> int:
        """Forget what the server has of a lease, and set aside what it refused, also when the lease has ended.

        A face that the server has erased is removed with all that still waits of it.

        Args:
            refused: by number.
            upto: the first number of which nothing is known; all are known if None.

        Returns:
            How many faces have nothing more to send.
        """
        span = (lease.first, lease.last if upto is None else upto - 1)
        erased = [number for number, refusal in refused.items() if refusal.code == Refused.ERASED]

        def forget(db: sqlite3.Connection) -> int:
            _count(db, purged=_remove(db, erased))
            for number, refusal in refused.items():
                row = (number, refusal.code[:_LONGEST_CODE], refusal.reason[:_LONGEST_REASON], self._clock())
                query = "INSERT OR REPLACE INTO refused SELECT ?1, ?2, ?3, ?4 WHERE ?1 IN (SELECT sequence FROM faces)"
                db.execute(query, row)
            kept = f"sequence BETWEEN ? AND ? AND {_READY}"
            for table in ("basics",) if lease.part == "base" else ("basics", "further"):
                db.execute(f"DELETE FROM {table} WHERE {kept}", span)
            done = db.execute(f"DELETE FROM faces WHERE sequence BETWEEN ? AND ? AND {_GONE}", span).rowcount
            db.execute("DELETE FROM leases WHERE token = ?", (lease.token,))
            _count(db, delivered=done)
            return done

        return self._file.with_reserve(forget)

    def release(self, lease: Lease) -> None:
        """Not sent: let the next lease have these faces at once."""
        self._file.with_reserve(lambda db: db.execute("DELETE FROM leases WHERE token = ?", (lease.token,)))

    def refusals(self) -> list[Refusal]:
        """Faces that are set aside, by number."""
        with self._file.transaction() as db:
            rows = db.execute("SELECT sequence, code, reason FROM refused ORDER BY sequence").fetchall()
        return [Refusal(*row) for row in rows]

    def retry(self) -> int:
        """Let what is set aside be sent again; returns how many faces that are."""
        return self._file.with_reserve(lambda db: db.execute("DELETE FROM refused").rowcount)

    def drop(self) -> int:
        """Remove what is set aside, and its bytes from the disk; returns how many faces that were.

        Raises:
            EdgeError: the bytes are still in the log, since another process reads the spool all the time.
        """

        def remove(db: sqlite3.Connection) -> int:
            numbers = [number for (number,) in db.execute("SELECT sequence FROM refused")]
            removed = _remove(db, numbers)
            _count(db, purged=removed)
            return removed

        removed = self._file.with_reserve(remove)
        self._file.vacuum()
        return removed

    def purge(self, below: int | None = None) -> int:
        """Remove all faces, or those numbered below `below`, and their bytes from the disk. Numbers go on.

        Returns:
            How many there were.

        Raises:
            EdgeError: the bytes are still in the log, since another process reads the spool all the time.
        """

        def remove(db: sqlite3.Connection) -> int:
            for table in ("refused", "basics", "further", "faces"):
                removed = db.execute(f"DELETE FROM {table} WHERE ?1 IS NULL OR sequence < ?1", (below,)).rowcount
            _count(db, purged=removed)
            return removed

        removed = self._file.with_reserve(remove)
        self._file.vacuum()
        return removed

    @property
    def waiting(self) -> int:
        """Faces in the spool that may be sent; those set aside are not counted."""
        with self._file.transaction() as db:
            return int(db.execute(f"SELECT count(*) FROM faces WHERE {_READY}").fetchone()[0])

    def status(self) -> SpoolStatus:
        """All counters, of one moment."""
        with self._file.transaction() as db:
            columns = "next, max_bytes, taken, delivered, dropped, purged, thinned, damaged"
            number, most, taken, delivered, dropped, purged, thinned, damaged = self._file.state(
                db, f"SELECT {columns} FROM state"
            )
            query = f"SELECT count(*), total(NOT {_FREE}), min(captured) FROM faces"
            waiting, leased, oldest = db.execute(query, self._now()).fetchone()
            (basic,) = db.execute("SELECT count(*) FROM basics").fetchone()
            codes = dict(db.execute("SELECT code, count(*) FROM refused GROUP BY code ORDER BY code").fetchall())
            used = self._file.used(db)
        return SpoolStatus(
            self.device, number, used, most, waiting, basic, int(leased), oldest, taken, delivered, dropped, purged,
            thinned, damaged, self.stream_id.hex(), sum(codes.values()), codes,
        )  # fmt: skip

    def _now(self) -> dict[str, float]:
        return {"now": self._clock()}

    def _run(self, db: sqlite3.Connection, part: Part, count: int, max_bytes: float) -> Lease | None:
        """The oldest free faces that one request can carry: consecutive numbers of one source.

        Frames that are found damaged can never be stored by any server. They are removed and counted.
        """
        query = f"{_PARTS[part]} AND {_FREE} AND {_READY} ORDER BY sequence LIMIT :n"
        while rows := db.execute(query, self._now() | {"n": count}).fetchall():
            run = LeaseRun(self.key, self.device)
            for row in rows:
                try:
                    if not run.add(self._opened(row)):
                        break
                except FrameError as error:
                    if not _delete_frame(db, row[0], row[-2]):
                        raise self._file.damaged(f"face {row[0]}: {error}") from None
                    _count(db, damaged=1)
            if run.count:
                lease = run.lease(part, max_bytes)
                self._check_found(db, lease)
                return lease
        return None

    def _opened(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        """A row of `_PARTS` with its frame as it was put; `FrameError` if it is damaged."""
        if self._file.seal is None:
            return row
        number, captured, table, data = row[0], row[6], row[-2], row[-1]
        try:
            return *row[:-1], self._file.seal.open(data, self.stream_id, number, captured, table)
        except (EdgeError, TypeError, struct.error) as error:
            raise FrameError(str(error)) from None

    def _check_found(self, db: sqlite3.Connection, lease: Lease) -> None:
        """Refuse to send what is read and would not be found again to be forgotten: it would be sent for ever."""
        table = {"base": "basics", "enhancement": "further", "all": "faces"}[lease.part]
        query = f"SELECT count(*) FROM {table} WHERE sequence BETWEEN ? AND ?"
        (found,) = db.execute(query, (lease.first, lease.last)).fetchone()
        if found != lease.last - lease.first + 1:
            raise self._file.damaged(f"faces {lease.first} to {lease.last} are out of order")

    def _evict(self, db: sqlite3.Connection) -> bool:
        """Thin the oldest face that has further layers, or drop the oldest; False if there is none."""
        for table, condition in (("further", _FREE), ("faces", _FREE), ("faces", "true")):
            query = f"SELECT sequence FROM {table} WHERE {condition} ORDER BY sequence LIMIT 1"
            if found := db.execute(query, self._now()).fetchone():
                (sequence,) = found
                break
        else:
            return False
        if table == "further":
            _delete_frame(db, sequence, "further")
            delivered = db.execute("SELECT NOT EXISTS (SELECT 1 FROM faces WHERE sequence = ?)", (sequence,)).fetchone()
            _count(db, thinned=1, delivered=delivered[0])
        else:
            _remove(db, [sequence])
            _count(db, dropped=1)
        return True


def _remove(db: sqlite3.Connection, numbers: Sequence[int]) -> int:
    """Remove faces with all that waits of them; how many there were."""
    removed = 0
    for number in numbers:
        for table in ("refused", "basics", "further", "faces"):
            rows = db.execute(f"DELETE FROM {table} WHERE sequence = ?", (number,)).rowcount
        removed += rows
    return removed


def _delete_frame(db: sqlite3.Connection, sequence: int, table: str) -> int:
    """Remove one frame of a face, and the face if it was the last; 1, or 0 if there was no such frame."""
    removed = db.execute(f"DELETE FROM {table} WHERE sequence = ?", (sequence,)).rowcount
    db.execute(f"DELETE FROM faces WHERE sequence = ? AND {_GONE}", (sequence,))
    db.execute(f"DELETE FROM refused WHERE sequence = ? AND {_GONE}", (sequence,))
    return removed


def _remove_torn(db: sqlite3.Connection) -> None:
    """Remove and count faces without a frame and frames without a face, which damage alone can make."""
    removed = db.execute(f"DELETE FROM faces WHERE {_GONE}").rowcount
    for table in ("basics", "further"):
        removed += db.execute(f"DELETE FROM {table} WHERE sequence NOT IN (SELECT sequence FROM faces)").rowcount
    if removed:
        _count(db, damaged=removed)


def _count(db: sqlite3.Connection, **counters: int) -> None:
    changes = ", ".join(f"{name} = {name} + {value}" for name, value in counters.items())
    db.execute(f"UPDATE state SET {changes}")
