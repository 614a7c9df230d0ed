"""Delivery of a spool to a server that is there, away, or refuses."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from demo_camera.service.delivery import Delivery, Destination, SharedByteLimiter
from edge_stscq.client.byte_budget import Budget, ByteLimiter
from edge_stscq.client.spool import Spool
from edge_stscq.events.notices import Notices
from tests.client.filled import captured
from tests.demo_camera.service.doubles import CODEC, Received, Receiver, Said, wait_for
from tests.support.fakes import stream_acknowledgement

Answer = tuple[int, dict[str, str], bytes]


def accept(request: Received) -> Answer:
    return 200, {"Content-Type": "application/json"}, stream_acknowledgement(request.body).encode()


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """A spool with three faces."""
    path = tmp_path / "door.spool"
    with Spool(path, "door") as spool:
        for number in range(3):
            spool.put(captured(CODEC, number))
    return path


@contextmanager
def delivering(path: Path, to: Destination, said: Said) -> Iterator[Delivery]:
    stopping = threading.Event()
    delivery = Delivery(path, "door", to, Notices(said), stopping, first_pause=0.01)
    delivery.start()
    try:
        yield delivery
    finally:
        stopping.set()
        delivery.join(20)
        assert not delivery.is_alive()


def waiting(path: Path) -> int:
    with Spool(path) as spool:
        return spool.waiting


def test_faces_reach_the_server_and_later_ones_follow(spool: Path) -> None:
    said = Said()
    with (
        Receiver(accept).running() as server,
        delivering(spool, Destination(server.url, SecretStr("edge_1")), said) as delivery,
    ):
        wait_for(lambda: delivery.report.faces == 3)
        with Spool(spool) as more:
            more.put(captured(CODEC, 3))
        wait_for(lambda: delivery.report.faces == 4)
        assert {request.headers["edge-device"] for request in server.received} == {"door"}
        assert {request.headers["authorization"] for request in server.received} == {"Bearer edge_1"}
        assert delivery.report.bytes > sum(len(request.body) for request in server.received)
    assert waiting(spool) == 0
    assert said.events == []


def test_server_that_is_away_is_said_once_and_gets_everything_later(spool: Path) -> None:
    said, there = Said(), threading.Event()

    def answer(request: Received) -> Answer:
        return accept(request) if there.is_set() else (503, {}, b"{}")

    with Receiver(answer).running() as server, delivering(spool, Destination(server.url), said) as delivery:
        wait_for(lambda: said.of("trouble"))
        assert waiting(spool) == 3
        there.set()
        wait_for(lambda: delivery.report.faces == 3)
    assert [event for event, _ in said.events] == ["trouble", "over"]
    assert said.of("trouble")[0]["place"] == "server for door"
    assert "run the same command again" not in str(said.of("trouble")[0]["text"])


def test_end_does_not_wait_for_a_server_that_is_away_and_leaves_the_spool_whole(spool: Path) -> None:
    said = Said()
    with delivering(spool, Destination("http://127.0.0.1:1"), said):
        wait_for(lambda: said.of("trouble"))
    assert waiting(spool) == 3


def test_faces_that_the_server_refuses_are_set_aside_and_said_once(spool: Path) -> None:
    said = Said()

    def answer(request: Received) -> Answer:
        return 422, {"Content-Type": "application/json"}, json.dumps({"error": "not a model of this server"}).encode()

    with Receiver(answer).running() as server, delivering(spool, Destination(server.url), said) as delivery:
        wait_for(lambda: delivery.report.refused == 3)
        wait_for(lambda: said.of("trouble"))
    assert len(said.of("trouble")) == 1
    assert "spool status" in str(said.of("trouble")[0]["text"])
    with Spool(spool) as opened:
        assert opened.status().refused == 3


def test_budget_holds_and_its_wait_ends_with_everything(spool: Path) -> None:
    stopping = threading.Event()
    limiter = SharedByteLimiter(Budget(100, 3600), stopping)
    with Receiver(accept).running() as server:
        delivery = Delivery(spool, "door", Destination(server.url, limiter=limiter), Notices(Said()), stopping)
        delivery.start()
        wait_for(lambda: delivery.report.requests == 1)
        with Spool(spool) as more:
            more.put(captured(CODEC, 3))
        assert ByteLimiter.level(limiter) < 0, "asked without the lock, which who waits for bytes holds"
        stopping.set()
        delivery.join(20)
        assert not delivery.is_alive()
        assert len(server.received) == 1
    assert waiting(spool) >= 1
