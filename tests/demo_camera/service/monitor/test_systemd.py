"""Words to systemd over a socket of this test."""

import os
import socket
from pathlib import Path

import pytest

from demo_camera.service.monitor.systemd import notify, watchdog_period


def test_lines_reach_the_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        notify("READY=1", "STATUS=two cameras")
        assert manager.recv(100) == b"READY=1\nSTATUS=two cameras"


@pytest.mark.parametrize("address", [None, "", "/no/such/socket"])
def test_without_a_manager_nothing_happens(address: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify("READY=1")


@pytest.mark.parametrize(
    ("usec", "process", "period"),
    [(None, None, None), ("0", None, None), ("2000000", None, 2.0), ("2000000", "1", None), ("x", None, None)],
)
def test_watchdog_is_asked_for_by_the_environment(
    usec: str | None, process: str | None, period: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("WATCHDOG_USEC", usec), ("WATCHDOG_PID", process)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert watchdog_period() == period
    if usec == "2000000" and process is None:
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
        assert watchdog_period() == period
