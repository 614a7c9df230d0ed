"""Spool: faces on the device that no server has acknowledged yet.

A face gets a sequence number that no other face of this spool ever had, also after a restart or a purge; device name
and number are its name at the server. It waits as one or two frames: one with its basic layer and one with all layers,
so that the basic layers of all faces can travel before the further layers of any.

Who sends takes a lease: no other process gets the same faces before it ends. Only an acknowledgement removes them, so a
sender may die at any moment; what it had is leased again later, and the server recognises what it has.

The size is bounded, and the newest face matters most. When there is no room, the oldest faces lose their further
layers; when none has any left, the oldest faces are dropped. Both are counted. Faces on lease are touched last.
"""

import secrets
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

from edge_stscq.client.spool_file import SpoolFile
from edge_stscq.errors import EdgeError, FrameError
from edge_stscq.stream.frame import Frame, check_frame

MAX_BYTES = 64 * 1024**2
"""Default bound: about 480,000 faces."""
LEAST_BYTES = 64 * 1024
"""A spool cannot be smaller."""
MAX_LEASE = 3600.0
"""Longest lease in seconds. One that would last longer was made before the clock went back, and has ended."""
MAX_LEASES = 64
"""Leases at one time, of all processes: what leases take on the disk is bounded, too."""

Part = Literal["base", "enhancement", "all"]

_HELD = f"until > :now AND until <= :now + {MAX_LEASE}"
_FREE = f"NOT EXISTS (SELECT 1 FROM leases WHERE sequence BETWEEN first AND last AND {_HELD})"
_GONE = "sequence NOT IN (SELECT sequence FROM basics) AND sequence NOT IN (SELECT sequence FROM further)"
_PARTS: dict[Part, str] = {
    "base": "SELECT sequence, model, 'basics', frame FROM basics JOIN faces USING (sequence) WHERE true",
    "enhancement": """SELECT sequence, model, 'further', frame FROM further JOIN faces USING (sequence)
        WHERE sequence NOT IN (SELECT sequence FROM basics)""",
    "all": """SELECT sequence, model, iif(further.frame IS NULL, 'basics', 'further'),
        ifnull(further.frame, basics.frame)
        FROM faces LEFT JOIN basics USING (sequence) LEFT JOIN further USING (sequence) WHERE true""",
}
"""Which of a face's frames is leased, the table it is in, and of which faces."""


@dataclass(frozen=True)
class Lease:
    """Frames of the faces `first`, `first + 1`, ..., all of one model.

    Attributes:
        token: tells this lease from others.
        part: `base` if the faces may have another frame waiting.
    """

    token: int
    part: Part
    first: int
    model_id: bytes
    frames: tuple[bytes, ...]

    @property
    def last(self) -> int:
        return self.first + len(self.frames) - 1


@dataclass(frozen=True)
class SpoolStatus:
    """Counters of a spool: faces that wait, and what became of all others since it was made.

    Attributes:
        next: sequence number of the next face.
        bytes, max_bytes: pages of the file in use, and the bound.
        waiting: faces; of these, `basic_waiting` have not sent their basic layer, and `leased` are being sent.
        oldest: when the oldest waiting face was captured, in seconds since 1970 UTC.
        taken: faces put.
        delivered: faces that the server has, if thinned at least their basic layer.
        dropped: faces removed for want of room.
        purged: faces removed by `purge`.
        thinned: faces that lost their further layers for want of room.
        damaged: frames removed because their checksum had changed.
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


class Spool:
    """Open the spool at `path`, or make it if `device` is given. For one thread; any number of processes.

    Args:
        device: name of this device, 1 to 64 of `A-Z a-z 0-9 . _ -`.
        start: numbers below it are never given to a face.
        max_bytes: bound of the room, 64 KiB or more; as it was if None, 64 MiB at first.
        clock: seconds since 1970 UTC, the same in all processes.

    Raises:
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
    ) -> None:
        if max_bytes is not None and max_bytes < LEAST_BYTES:
            raise EdgeError(f"a spool of {max_bytes} bytes is too small; give it {LEAST_BYTES // 1024}KiB or more")
        self._clock = clock
        self._file = SpoolFile(Path(path), device, max_bytes or MAX_BYTES)
        try:
            with self._file.transaction() as db:
                query = (
                    "UPDATE state SET next = max(next, ?), max_bytes = ifnull(?, max_bytes) RETURNING device, max_bytes"
                )
                self.device, most = db.execute(query, (start, max_bytes)).fetchall()[0]
                while self._file.used(db) > most:
                    self._evict(db)
            self._file.shrink(most)
        except EdgeError:
            self._file.close()
            raise

    def __enter__(self) -> "Spool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def put(self, *frames: Frame, captured_at: float | None = None) -> int:
        """Keep one face; it is on disk when this returns.

        Args:
            frames: the face's frame; or one with fewer layers and then the frame, so that the first may travel before
                the further layers of any face.
            captured_at: seconds since 1970 UTC; now if None.

        Returns:
            Its sequence number.

        Raises:
            EdgeError: as `put_bytes`, or the frames are of two models.

        Example:
            >>> with Spool("faces.spool", device="door-1") as spool:
            ...     spool.put(encoder.encode_frame(crop))
        """
        models = {frame.model_id for frame in frames}
        if len(models) != 1:
            raise EdgeError("a face waits as one or two frames of one model; put its frames and no others")
        when = self._clock() if captured_at is None else captured_at
        return self.put_bytes(models.pop(), [frame.data for frame in frames], when)

    def put_bytes(self, model_id: bytes, frames: Sequence[bytes], captured_at: float) -> int:
        """`put` for frames as bytes.

        Args:
            model_id: 8 bytes.
            frames: the face's frame, or one with fewer layers and then the frame.
            captured_at: seconds since 1970 UTC.

        Returns:
            Its sequence number.

        Raises:
            FrameError: a frame is damaged or of another model.
            EdgeError: these are not one or two frames with rising layers, they do not fit into the whole spool, or the
                disk failed; nothing was kept.
        """
        layers = [_layers(frame, model_id) for frame in frames]
        if len(layers) not in (1, 2) or layers != sorted(set(layers)):
            raise EdgeError(f"a face waits as one or two frames with rising layers, not with {layers}")
        size = sum(map(len, frames))
        with self._file.transaction() as db:
            query = "UPDATE state SET next = next + 1, taken = taken + 1 RETURNING next - 1, max_bytes"
            sequence, most = map(int, db.execute(query).fetchall()[0])
            while size < most:
                db.execute("SAVEPOINT face")
                db.execute("INSERT INTO faces VALUES (?, ?, ?)", (sequence, model_id, captured_at))
                for table, frame in zip(("basics", "further"), frames, strict=False):
                    db.execute(f"INSERT INTO {table} VALUES (?, ?)", (sequence, frame))
                if self._file.used(db) <= most:
                    return sequence
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
            max_bytes: of all frames; a single one may be longer.
        """
        if not 0 < seconds <= MAX_LEASE:
            raise EdgeError(f"a lease lasts up to {MAX_LEASE:.0f} seconds, not {seconds}")
        parts: tuple[Part, ...] = ("all",) if full_frames_only else ("base", "enhancement")
        with self._file.transaction() as db:
            db.execute(f"DELETE FROM leases WHERE NOT ({_HELD})", self._now())
            (held,) = db.execute("SELECT count(*) FROM leases").fetchone()
            for part in parts if held < MAX_LEASES else ():
                lease = self._run(db, part, count, max_bytes)
                if lease is not None:
                    values = (lease.token, lease.first, lease.last, self._clock() + seconds)
                    db.execute("INSERT INTO leases VALUES (?, ?, ?, ?)", values)
                    return lease
        return None

    def acknowledge(self, lease: Lease) -> int:
        """The server has these frames: forget them. True whether or not the lease has ended.

        Returns:
            How many faces have nothing more to send.
        """
        span = (lease.first, lease.last)
        with self._file.transaction() as db:
            for table in ("basics",) if lease.part == "base" else ("basics", "further"):
                db.execute(f"DELETE FROM {table} WHERE sequence BETWEEN ? AND ?", span)
            done = db.execute(f"DELETE FROM faces WHERE sequence BETWEEN ? AND ? AND {_GONE}", span).rowcount
            db.execute("DELETE FROM leases WHERE token = ?", (lease.token,))
            _count(db, delivered=done)
        return done

    def release(self, lease: Lease) -> None:
        """Not sent: let the next lease have these faces at once."""
        with self._file.transaction() as db:
            db.execute("DELETE FROM leases WHERE token = ?", (lease.token,))

    def purge(self, below: int | None = None) -> int:
        """Remove all faces, or those numbered below `below`, and their bytes from the disk. Numbers go on.

        Returns:
            How many there were.
        """
        with self._file.transaction() as db:
            for table in ("basics", "further", "faces"):
                removed = db.execute(f"DELETE FROM {table} WHERE ?1 IS NULL OR sequence < ?1", (below,)).rowcount
            _count(db, purged=removed)
        self._file.vacuum()
        return removed

    @property
    def waiting(self) -> int:
        """Faces that are in the spool."""
        with self._file.transaction() as db:
            return int(db.execute("SELECT count(*) FROM faces").fetchone()[0])

    def status(self) -> SpoolStatus:
        """All counters, of one moment."""
        with self._file.transaction() as db:
            columns = "next, max_bytes, taken, delivered, dropped, purged, thinned, damaged"
            number, most, *ends = db.execute(f"SELECT {columns} FROM state").fetchone()
            query = f"SELECT count(*), total(NOT {_FREE}), min(captured) FROM faces"
            waiting, leased, oldest = db.execute(query, self._now()).fetchone()
            (basic,) = db.execute("SELECT count(*) FROM basics").fetchone()
            used = self._file.used(db)
        return SpoolStatus(self.device, number, used, most, waiting, basic, int(leased), oldest, *ends)

    def _now(self) -> dict[str, float]:
        return {"now": self._clock()}

    def _run(self, db: sqlite3.Connection, part: Part, count: int, max_bytes: float) -> Lease | None:
        """The oldest free faces that one request can carry: consecutive numbers of one model.

        Frames that are found damaged can never be stored by any server. They are removed and counted.
        """
        query = f"{_PARTS[part]} AND {_FREE} ORDER BY sequence LIMIT :n"
        rows = db.execute(query, self._now() | {"n": count}).fetchall()
        frames: list[bytes] = []
        first, model_id, size = 0, b"", 0
        for sequence, model, table, frame in rows:
            try:
                _layers(frame, model)
            except FrameError:
                _delete_frame(db, sequence, table)
                _count(db, damaged=1)
                continue
            size += len(frame)
            if not frames:
                first, model_id = sequence, model
            elif sequence != first + len(frames) or model != model_id or size > max_bytes:
                break
            frames.append(frame)
        if not frames:
            return self._run(db, part, count, max_bytes) if rows else None
        return Lease(secrets.randbits(62), part, first, model_id, tuple(frames))

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
            _count(db, thinned=1, delivered=_delete_frame(db, sequence, "further"))
        else:
            for table in ("basics", "further", "faces"):
                db.execute(f"DELETE FROM {table} WHERE sequence = ?", (sequence,))
            _count(db, dropped=1)
        return True


def _layers(frame: bytes, model_id: bytes) -> int:
    """Layers of a frame; `FrameError` unless it is whole and alone."""
    layout = check_frame(frame, 0, model_id)
    if layout.end != len(frame):
        raise FrameError(f"{len(frame) - layout.end} bytes follow the frame; put frames one by one")
    return layout.layers


def _delete_frame(db: sqlite3.Connection, sequence: int, table: str) -> int:
    """Remove one frame of a face, and the face if it was the last; 1 if it was."""
    db.execute(f"DELETE FROM {table} WHERE sequence = ?", (sequence,))
    return db.execute(f"DELETE FROM faces WHERE sequence = ? AND {_GONE}", (sequence,)).rowcount


def _count(db: sqlite3.Connection, **counters: int) -> None:
    changes = ", ".join(f"{name} = {name} + {value}" for name, value in counters.items())
    db.execute(f"UPDATE state SET {changes}")
