"""Metrics and readiness from figures."""

from dataclasses import replace

import pytest

from demo_camera.service.lane import Status
from demo_camera.service.monitor.metrics import Metrics
from demo_camera.service.monitor.readiness import unready
from demo_camera.service.reader import State
from edge_stscq.events.publisher import Counts, Message
from tests.support.installed import need_module

parser = need_module("prometheus_client.parser", "pip install 'edge-stscq[camera]'")

DOOR = Status(
    name="door", state=State.RUNNING, rate=9.5, skipped=2, pictures=100, faces=7, refused={"too blurred": 3},
    tracks=4, restarts=1, silence=0.25, seconds=2.5, damaged=5, failures=6, waiting=8, unkept=9, repeated=14, lost=10,
    delivered=11, set_aside=12, bytes_sent=1300,
)  # fmt: skip


class FakePublisher:
    def __init__(self) -> None:
        self.name, self.counts = "mqtt broker:1883", Counts(sent=3, lost=1)

    def start(self) -> None: ...
    def publish(self, message: Message) -> None: ...
    def close(self) -> None: ...


def test_metrics_have_every_figure_of_every_camera() -> None:
    cameras = [DOOR, replace(DOOR, name="yard", state=State.AWAY)]
    text = Metrics(lambda: cameras, [FakePublisher()], lambda: {"server for door": "away"}).text().decode()
    found = {
        (sample.name, frozenset(sample.labels.values())): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }
    expected = {
        "pictures_total": 100, "skipped_total": 2, "faces_total": 7, "tracks_total": 4, "reconnects_total": 1,
        "seconds_total": 2.5, "damaged_total": 5,
        "failures_total": 6, "repeated_faces_total": 14, "lost_faces_total": 10,
        "delivered_faces_total": 11, "set_aside_faces_total": 12, "sent_bytes_total": 1300, "up": 1,
        "picture_age_seconds": 0.25, "spool_faces": 8, "unkept_faces": 9,
    }  # fmt: skip
    for name, value in expected.items():
        assert found[f"edge_stscq_camera_{name}", frozenset({"door"})] == value, name
    assert found["edge_stscq_camera_refused_total", frozenset({"door", "too blurred"})] == 3
    assert found["edge_stscq_camera_up", frozenset({"yard"})] == 0
    assert found["edge_stscq_camera_trouble", frozenset({"server for door"})] == 1
    assert found["edge_stscq_camera_events_total", frozenset({"mqtt broker:1883", "sent"})] == 3
    assert found["edge_stscq_camera_events_total", frozenset({"mqtt broker:1883", "lost"})] == 1
    assert ("process_resident_memory_bytes", frozenset()) in found


@pytest.mark.parametrize(
    ("changes", "troubles", "reasons"),
    [
        ({}, {}, []),
        ({}, {"server for door": "away", "mqtt broker:1883": "away"}, []),
        ({"silence": 61.0}, {}, ["camera door: no picture for 61 s"]),
        ({"silence": 61.0}, {"camera door": "unplugged"}, ["camera door: no picture for 61 s; unplugged"]),
        ({"silence": 61.0, "state": State.ENDED}, {}, []),
        ({"state": State.ENDED}, {"camera door": "damaged"}, ["camera door: damaged"]),
        ({}, {"spool door": "disk full", "spool yard": "x"}, ["spool door: disk full"]),
    ],
)
def test_unready_gives_the_reasons(changes: dict[str, object], troubles: dict[str, str], reasons: list[str]) -> None:
    assert unready([replace(DOOR, **changes)], troubles, None, 60) == reasons  # type: ignore[arg-type]


def test_self_test_that_failed_is_the_only_reason() -> None:
    assert unready([replace(DOOR, silence=100.0)], {}, "other tokens", 60) == ["self-test: other tokens"]
