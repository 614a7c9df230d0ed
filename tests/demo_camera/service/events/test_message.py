"""Messages about visits, in frigate's form."""

import time

from demo_camera.service.events.message import Messages
from tests.demo_camera.service.doubles import FakeEvent


def test_message_has_frigates_keys() -> None:
    message = Messages().of("door", FakeEvent("update", 7, 87.5))
    assert list(message) == ["type", "id", "name", "score", "camera", "timestamp"]
    assert (message["type"], message["name"], message["camera"]) == ("face", None, "door")
    assert (message["score"], message["timestamp"]) == (0.875, 1_790_000_000.123)


def test_id_is_one_visits_of_one_camera_in_one_run() -> None:
    messages, again = Messages(), Messages()
    ids = [messages.of("door", FakeEvent(kind, 7))["id"] for kind in ("new", "update", "end")]
    assert len(set(ids)) == 1
    others = [messages.of("door", FakeEvent("new", 8)), messages.of("yard", FakeEvent("new", 7))]
    assert len({ids[0], *(other["id"] for other in others), again.of("door", FakeEvent("new", 7))["id"]}) == 4


def test_picture_without_a_time_is_of_now() -> None:
    before = time.time()
    timestamp = Messages().of("door", FakeEvent("new", 0, captured_ms=None))["timestamp"]
    assert isinstance(timestamp, float)
    assert before - 0.001 <= timestamp <= time.time() + 0.001
