"""MQTT against a real broker on a free port."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from edge_stscq.events.notices import Notices
from tests.demo_camera.service.doubles import Said, wait_for
from tests.events.broker import Broker, free_port
from tests.support.installed import need_module

need_module("paho.mqtt", "pip install 'edge-stscq[camera]'")

from paho.mqtt.client import Client, MQTTMessage  # noqa: E402
from paho.mqtt.enums import CallbackAPIVersion  # noqa: E402

from edge_stscq.events.mqtt import MqttPublisher  # noqa: E402


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path)
    yield broker
    broker.stop()


@contextmanager
def listening(port: int) -> Iterator[list[tuple[str, str, bool]]]:
    """Messages that a subscriber of everything gets: topic, text, and if it was retained."""
    heard: list[tuple[str, str, bool]] = []
    client, there = Client(CallbackAPIVersion.VERSION2), []

    def on_message(client: Client, data: object, message: MQTTMessage) -> None:
        heard.append((message.topic, message.payload.decode(), message.retain))

    client.on_message = on_message
    client.on_subscribe = lambda *_: there.append(True)
    client.connect("127.0.0.1", port)
    client.subscribe("#", qos=1)
    client.loop_start()
    wait_for(lambda: there)
    try:
        yield heard
    finally:
        client.disconnect()
        client.loop_stop()


@contextmanager
def publishing(port: int, said: Said, **settings: object) -> Iterator[MqttPublisher]:
    publisher = MqttPublisher("127.0.0.1", port, "home/edge", Notices(said), longest_pause=1, **settings)  # type: ignore[arg-type]
    publisher.start()
    try:
        yield publisher
    finally:
        publisher.close()


def test_messages_and_availability_reach_the_broker(broker: Broker) -> None:
    said = Said()
    with listening(broker.start().port) as heard:
        with publishing(broker.port, said) as publisher:
            wait_for(lambda: ("home/edge/available", "online", False) in heard)
            publisher.publish({"type": "face", "name": None})
            wait_for(lambda: publisher.counts.sent == 1)
        wait_for(lambda: ("home/edge/available", "offline", False) in heard)
    assert [json.loads(text) for topic, text, _ in heard if topic == "home/edge/tracked_object_update"] == [
        {"type": "face", "name": None}
    ]
    with listening(broker.port) as later:
        wait_for(lambda: later)
        assert later == [("home/edge/available", "offline", True)]
    assert said.events == []


def test_broker_says_offline_for_a_service_that_went_without_a_word(broker: Broker) -> None:
    with listening(broker.start().port) as heard, publishing(broker.port, Said()) as publisher:
        wait_for(lambda: heard)
        connection = publisher._client.socket()
        assert isinstance(connection, socket.socket)
        connection.shutdown(socket.SHUT_RDWR)
        wait_for(lambda: ("home/edge/available", "offline", False) in heard)
        wait_for(lambda: heard[-1] == ("home/edge/available", "online", False))


def test_messages_wait_for_a_broker_that_is_away_and_it_is_said_once(broker: Broker) -> None:
    said = Said()
    with publishing(broker.port, said) as publisher:
        wait_for(lambda: said.of("trouble"))
        for number in range(3):
            publisher.publish({"n": number})
        with listening(broker.start().port) as heard:
            wait_for(lambda: publisher.counts.sent == 3)
            wait_for(lambda: len([one for one in heard if one[0].endswith("update")]) == 3)
        broker.stop()
        wait_for(lambda: len(said.of("trouble")) == 2)
        broker.start()
        wait_for(lambda: len(said.of("over")) == 2)
    assert publisher.counts.lost == 0


def test_messages_beyond_the_bound_and_at_the_end_are_counted_as_lost() -> None:
    with publishing(free_port(), Said(), most_waiting=3) as publisher:
        for number in range(5):
            publisher.publish({"n": number})
        assert publisher.counts.lost == 2
    assert publisher.counts.lost == 5


def test_wrong_password_is_said_and_the_right_one_let_in(tmp_path: Path) -> None:
    broker = Broker(tmp_path, password="hunter2").start()
    try:
        said = Said()
        with publishing(broker.port, said, username="door", password=SecretStr("wrong")):
            wait_for(lambda: said.of("trouble"))
        assert "refused the connection" in str(said.of("trouble")[0]["text"])
        assert "wrong" not in str(said.events)
        with publishing(broker.port, said, username="door", password=SecretStr("hunter2")) as publisher:
            publisher.publish({"n": 1})
            wait_for(lambda: publisher.counts.sent == 1)
    finally:
        broker.stop()
