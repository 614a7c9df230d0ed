"""Message about a visit, in the form of frigate's `tracked_object_update`."""

import secrets
import time

from demo_camera.service.parts import TrackEvent
from edge_stscq.events.publisher import Message


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
