"""HTTP of the monitor: pages, bounds, ports."""

import socket
from collections.abc import Iterator
from http import HTTPStatus

import httpx2
import pytest

from demo_camera.service.monitor.http import PLAIN, MonitorServer
from edge_stscq.errors import EdgeError
from tests.demo_camera.service.doubles import wait_for


@pytest.fixture
def server() -> Iterator[MonitorServer]:
    server = MonitorServer("127.0.0.1", 0, {"/health": lambda: (HTTPStatus.OK, PLAIN, b"alive\n")})
    server.start()
    yield server
    server.stop()


def address(server: MonitorServer) -> tuple[str, int]:
    host, port = server.server_address[:2]
    return str(host), int(port)


def test_page_is_found_by_its_path_and_others_are_listed(server: MonitorServer) -> None:
    base = "http://{}:{}".format(*address(server))
    found = httpx2.get(f"{base}/health?x=1")
    assert (found.status_code, found.text, found.headers["content-type"]) == (200, "alive\n", PLAIN)
    assert httpx2.head(f"{base}/health").headers["content-length"] == "6"
    missing = httpx2.get(f"{base}/../etc/passwd")
    assert (missing.status_code, missing.text) == (404, "there are /health\n")
    assert httpx2.post(f"{base}/health").status_code == 501


def answers(server: MonitorServer) -> bool:
    try:
        return httpx2.get("http://{}:{}/health".format(*address(server))).status_code == 200
    except httpx2.TransportError:
        return False


def test_clients_that_say_nothing_take_no_more_than_the_room_there_is(server: MonitorServer) -> None:
    silent = [socket.create_connection(address(server)) for _ in range(16)]
    try:
        wait_for(lambda: not answers(server))
    finally:
        for one in silent:
            one.close()
    wait_for(lambda: answers(server))


def test_port_that_is_taken_is_refused(server: MonitorServer) -> None:
    with pytest.raises(EdgeError, match="choose another port in \\[metrics\\]"):
        MonitorServer(*address(server), {})
