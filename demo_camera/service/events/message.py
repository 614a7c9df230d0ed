"""Message about a visit, in the form of frigate's `tracked_object_update`, and what publishes it."""

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from demo_camera.service.parts import TrackEvent

Message = Mapping[str, str | float | None]


class Messages:
    """Messages of one run of the service: their ids differ from those of every other run."""

    def __init__(self) -> None:
        self._run = secrets.token_hex(4)

    def of(self, camera: str, event: TrackEvent) -> Message:
        """The message of an event.

        Returns:
            `type` is "face", `id` the visit's, `name` None, since nobody is named here; `score` the quality of its
            best face so far, 0 to 1, `camera`,
            and `timestamp` in seconds since 1970 UTC; now, of a picture that does not say when it was taken.
        """
        timestamp = time.time() if event.captured_ms is None else event.captured_ms / 1000
        return {
            "type": "face", "id": f"{camera}-{self._run}-{event.track}", "name": None,
            "score": round(event.score / 100, 4), "camera": camera, "timestamp": round(timestamp, 3),
        }  # fmt: skip


@dataclass
class Counts:
    """Messages of one publisher: taken by the other side, and given up (queue full, refused, or unsent at the end)."""

    sent: int = 0
    lost: int = 0


class Publisher(Protocol):
    """Something that takes messages without ever waiting, keeps a bounded number and counts what it gives up."""

    name: str
    counts: Counts

    def start(self) -> None:
        """Begin to publish, in the background."""

    def publish(self, message: Message) -> None:
        """Take one message."""

    def close(self) -> None:
        """Give what waits a short while to leave, and end."""
