"""Store of accepted frames in memory: the least that `FaceStore` asks for."""

import threading
import time
from collections.abc import Callable, Sequence

from edge_stscq.protocol import Refused, RefusedFrame
from edge_stscq.server.storage.face_store import (
    DeviceStats,
    FrameBatch,
    OnStored,
    Position,
    StoredFace,
    WriteResult,
    is_same_capture,
)
from edge_stscq.stream.envelope import WireFrame
from tests.support.stored_faces import row_of


class MemoryFaceStore:
    """A `FaceStore` that ends with its process."""

    name = "memory"

    def __init__(self) -> None:
        self._faces: dict[tuple[bytes, int], StoredFace] = {}
        self._revision, self._lock = 0, threading.Lock()
        self.on_stored: OnStored = lambda last, stored: None
        self.closed = False

    def accept_all(self, batches: Sequence[FrameBatch]) -> list[list[WriteResult | RefusedFrame] | Exception]:
        with self._lock:
            last, answers = self._revision, list(map(self._accept, batches))
        self.on_stored(last, self.changes(last, self._revision))
        return answers

    def _accept(self, batch: FrameBatch) -> list[WriteResult | RefusedFrame]:
        before, revision = dict(self._faces), self._revision
        results = [self._take(frame, batch.same_face) for frame in batch.frames]
        if batch.whole and any(isinstance(result, RefusedFrame) for result in results):
            self._faces, self._revision = before, revision
        return results

    def _take(self, frame: WireFrame, same_face: Callable[[WireFrame, WireFrame], bool]) -> WriteResult | RefusedFrame:
        name = frame.source.stream_id, frame.number
        old, new = self._faces.get(name), row_of(frame, self._revision + 1, received=time.time())
        if old is not None:
            if not (is_same_capture(old.frame(), frame) and same_face(old.frame(), frame)):
                reason = f"{old.id} is already another face"
                return RefusedFrame(stream=name[0].hex(), number=name[1], code=Refused.CONFLICT, reason=reason)
            if frame.layers <= old.layers:
                return "duplicate"
            new = row_of(frame, old.row, new.revision, old.received)
        self._faces[name] = new
        self._revision = new.revision
        return "stored" if old is None else "extended"

    def find(self, face_id: str) -> StoredFace | None:
        return next((face for face in self._faces.values() if face.id == face_id), None)

    def find_all(self, face_ids: Sequence[str]) -> list[StoredFace]:
        return [face for face in map(self.find, face_ids) if face is not None]

    def page(
        self, after: int, limit: int, device: str | None = None, since: float | None = None, until: float | None = None
    ) -> list[StoredFace]:
        found = [
            face for face in self._of(device)
            if face.row > after and (since or 0.0) <= face.received < (until or float("inf"))
        ]  # fmt: skip
        return sorted(found, key=lambda face: face.row)[:limit]

    def newest(
        self, limit: int, before: Position | None = None, device: str | None = None, since: float | None = None,
        until: float | None = None,
    ) -> list[StoredFace]:  # fmt: skip
        found = {Position(face.occurred, face.row): face for face in self._of(device)}
        chosen = [
            found[place] for place in sorted(found, reverse=True)
            if (before is None or place < before)
            and (since or 0.0) <= place.occurred < (until or float("inf"))
        ]  # fmt: skip
        return chosen[:limit]

    def changes(self, after: int, limit: int, device: str | None = None) -> list[StoredFace]:
        found = [face for face in self._of(device) if face.revision > after]
        return sorted(found, key=lambda face: face.revision)[:limit]

    def latest_revision(self) -> int:
        return self._revision

    def devices(self, since: float) -> list[DeviceStats]:
        return [self._stats(name, since) for name in sorted({face.device for face in self._of(None)})]

    def _stats(self, device: str, since: float) -> DeviceStats:
        faces = self._of(device)
        recent = [face for face in faces if face.received >= since]
        size, late = (sum(face.size for face in some) for some in (faces, recent))
        return DeviceStats(device, len(faces), size, max(face.received for face in faces), len(recent), late)

    def _of(self, device: str | None) -> list[StoredFace]:
        with self._lock:
            return [face for face in self._faces.values() if device in (None, face.device)]

    def check_writable(self) -> None:
        assert not self.closed

    def close(self) -> None:
        self.closed = True
