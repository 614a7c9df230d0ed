"""Acceptance of frames: what becomes of each in one transaction, and the rows that it makes.

Nothing here touches the database: found are the faces that have the names of the frames, and what is to be written is
asked for in the end.
"""

import time
from collections.abc import Mapping, Sequence, Set
from typing import Literal, NamedTuple

from sqlalchemy.exc import SQLAlchemyError

from edge_stscq.protocol import Refused, RefusedFrame
from edge_stscq.server.storage import device_counts
from edge_stscq.server.storage.face_store import (
    DamagedFaceError,
    FrameBatch,
    FreshFace,
    StoredFace,
    WriteResult,
    face_name,
    is_same_capture,
    occurrence,
)
from edge_stscq.server.storage.tables import EVERY_DEVICE
from edge_stscq.stream.envelope import WireFrame

Name = tuple[bytes, int]
"""Stream and number."""
NEW = 0
"""Row of a face that has none yet."""
_DAY = 86400.0
"""Seconds by which no clock of another server is ahead: a row that says more was damaged."""


class _Taken(NamedTuple):
    """Frame that is to be written.

    Attributes:
        row: that it replaces, `NEW` if it is none.
        received: seconds since 1970 UTC.
    """

    row: int
    received: float
    frame: WireFrame


class Acceptance:
    """Takes the batches of one transaction.

    Args:
        found: faces that are stored under names of the frames, by name.
        erased: names that never come back.
        times: since which and before which nothing of a device comes back, by device.

    Attributes:
        mended: devices of which a damaged face was sent again.
    """

    def __init__(
        self, found: Mapping[Name, StoredFace], erased: Set[Name], times: Mapping[str, Sequence[tuple[float, float]]]
    ) -> None:
        self._found, self._erased, self._times = found, erased, times
        self._taken: dict[Name, _Taken] = {}
        self.mended: set[str] = set()

    def take(self, batch: FrameBatch) -> list[WriteResult | RefusedFrame] | Exception:
        """Decide what becomes of each frame, or why none is stored."""
        now, results = time.time(), list[WriteResult | RefusedFrame]()
        accepted: dict[Name, _Taken] = {}
        try:
            for frame in batch.frames:
                name = frame.source.stream_id, frame.number
                if name in self._erased or (self._times and self._is_of_erased_time(frame, now)):
                    results.append("duplicate" if batch.whole else _erased(frame))
                    continue
                old = accepted.get(name) or self._taken.get(name) or self._found.get(name)
                if old is None:
                    accepted[name] = _Taken(NEW, now, frame)
                    results.append("stored")
                    continue
                result = _against(old, frame, batch)
                if result == "mended":
                    self.mended.add(frame.source.device)
                    result = "extended"
                if result == "extended":
                    received = old.received if 0 <= old.received < now + _DAY else now
                    accepted[name] = _Taken(old.row, received, frame)
                results.append(result)
        except SQLAlchemyError:
            raise
        except Exception as error:
            return error
        if not (batch.whole and any(isinstance(result, RefusedFrame) for result in results)):
            self._taken.update(accepted)
        return results

    def _is_of_erased_time(self, frame: WireFrame, now: float) -> bool:
        occurred = occurrence(frame, now)
        return any(
            since <= occurred < until
            for device in (frame.source.device, EVERY_DEVICE)
            for since, until in self._times.get(device, ())
        )

    def rows(self, last: int) -> list[FreshFace]:
        """Rows to write, with the revisions after `last`."""
        return [FreshFace.of(*taken, revision) for revision, taken in enumerate(self._taken.values(), last + 1)]

    def counts(self) -> device_counts.Changes:
        """Changes to the counts of devices, but for those of the mended ones."""
        counted = device_counts.Changes()
        for name, (_, received, frame) in self._taken.items():
            device = frame.source.device
            if device in self.mended:
                continue
            counted.add(device, frame.payload, received)
            if (old := self._found.get(name)) is not None:
                counted.remove(old.device, len(old.payload))
        return counted


def _erased(frame: WireFrame) -> RefusedFrame:
    stream = frame.source.stream_id.hex()
    return RefusedFrame(stream=stream, number=frame.number, code=Refused.ERASED, reason="the face was erased")


def _against(
    old: StoredFace | _Taken, new: WireFrame, batch: FrameBatch
) -> WriteResult | Literal["mended"] | RefusedFrame:
    """Result of a frame whose name is known."""
    try:
        stored = old.frame() if isinstance(old, StoredFace) else old.frame
    except DamagedFaceError:
        return "mended"  # a damaged row by a whole frame
    if not (is_same_capture(stored, new) and batch.same_face(stored, new)):
        stream, number = new.source.stream_id.hex(), new.number
        name = face_name(stored.source.device, stored.source.stream_id, number)
        reason = f"{name} is already another face"
        return RefusedFrame(stream=stream, number=number, code=Refused.CONFLICT, reason=reason)
    return "extended" if new.layers > stored.layers else "duplicate"
