"""Store of accepted frames in memory: the least that `FaceStore` asks for."""

import threading
import time
from collections.abc import Sequence
from dataclasses import replace

from edge_stscq.server.storage.face_store import (
    ConflictError,
    DeviceStats,
    FrameBatch,
    StoredFace,
    ValidatedFrame,
    WriteResult,
)


class MemoryFaceStore:
    """A `FaceStore` that ends with its process."""

    name = "memory"

    def __init__(self) -> None:
        self._faces: dict[str, StoredFace] = {}
        self._revision, self._lock = 0, threading.Lock()
        self.closed = False

    def accept_all(self, deliveries: Sequence[FrameBatch]) -> list[list[WriteResult] | Exception]:
        with self._lock:
            return [self._accept(delivery) for delivery in deliveries]

    def _accept(self, delivery: FrameBatch) -> list[WriteResult] | Exception:
        changed: dict[str, StoredFace] = {}
        outcomes: list[WriteResult] = []
        for sequence, frame in enumerate(delivery.frames, delivery.first):
            new = self._placed(delivery, sequence, frame, len(changed) + 1)
            old = self._faces.get(new.id)
            if old is None:
                outcomes.append("stored")
            elif old.model != new.model or not delivery.same_face(old.frame, new.frame):
                return ConflictError(f"{new.id} is already another face")
            elif new.layers > old.layers:
                outcomes.append("extended")
                new = replace(new, row=old.row, received=old.received)
            else:
                outcomes.append("duplicate")
                continue
            changed[new.id] = new
        self._faces |= changed
        self._revision += len(changed)
        return outcomes

    def _placed(self, delivery: FrameBatch, sequence: int, frame: ValidatedFrame, step: int) -> StoredFace:
        number = self._revision + step
        return StoredFace(
            number, delivery.device, sequence, delivery.model, frame.layers, frame.frame, time.time(), number
        )

    def find(self, face_id: str) -> StoredFace | None:
        return self._faces.get(face_id)

    def page(
        self, after: int, limit: int, device: str | None = None, since: float | None = None, until: float | None = None
    ) -> list[StoredFace]:
        found = [
            face for face in self._of(device)
            if face.row > after and (since or 0.0) <= face.received < (until or float("inf"))
        ]  # fmt: skip
        return sorted(found, key=lambda face: face.row)[:limit]

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
        size, late = (sum(len(face.frame) for face in some) for some in (faces, recent))
        return DeviceStats(device, len(faces), size, max(face.received for face in faces), len(recent), late)

    def _of(self, device: str | None) -> list[StoredFace]:
        with self._lock:
            return [face for face in self._faces.values() if device in (None, face.device)]

    def check_writable(self) -> None:
        assert not self.closed

    def close(self) -> None:
        self.closed = True
