"""The whole service around stand-ins of sources and loops: start, probes, events, end."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from demo_camera.service.loading import load_settings
from demo_camera.service.runner import Parts, Service
from edge_stscq.client.spool import Spool
from edge_stscq.errors import EdgeError
from tests.demo_camera.service.doubles import FakeLoop, FakeSource, Received, Receiver, Said, wait_for
from tests.support.fakes import stream_acknowledgement

Write = Callable[[str], Path]
TWO = '[[camera]]\nname = "door"\nsource = "0"\n[[camera]]\nname = "yard"\nsource = "1"\n'


class Bench:
    """A service of two cameras with settings of a file."""

    def __init__(self, file: Path, self_test: str | None = None, live: bool = True) -> None:
        self.said = Said()
        self.sources = {name: FakeSource(live) for name in ("door", "yard")}
        self.loops = {name: FakeLoop() for name in self.sources}
        parts = Parts(
            lambda camera: self.sources[camera.name], lambda camera: self.loops[camera.name], lambda: self_test
        )
        self.service = Service(load_settings(file), parts, self.said)
        self.passed: bool | None = None

    @contextmanager
    def running(self) -> "Iterator[Bench]":
        def run() -> None:
            self.passed = self.service.run()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield self
        finally:
            self.service.stop()
            thread.join(20)
            assert not thread.is_alive()

    def get(self, path: str) -> httpx2.Response:
        return httpx2.get(f"{self.service.address}{path}")


def waiting(folder: Path, name: str) -> int:
    with Spool(folder / "spools" / f"{name}.spool") as spool:
        assert spool.device == name
        return spool.waiting


def test_everything_captured_until_the_end_is_in_its_cameras_spool(write_settings: Write, tmp_path: Path) -> None:
    bench = Bench(write_settings(TWO), live=False)
    bench.sources["door"].give("face", "face", "visit")
    bench.sources["yard"].give("face")
    with bench.running():
        wait_for(lambda: bench.loops["door"].seen == ["face", "face", "visit"] and bench.loops["yard"].seen == ["face"])
    assert bench.passed
    assert (waiting(tmp_path, "door"), waiting(tmp_path, "yard")) == (3, 1)
    assert bench.said.of("end") == [{"faces": 4, "waiting": 4}]


def test_sealed_spools_are_filled_and_sent(
    write_settings: Write, tmp_path: Path, secret: Callable[[str, str], Path]
) -> None:
    got: list[Received] = []

    def answer(request: Received) -> tuple[int, dict[str, str], bytes]:
        got.append(request)
        return 200, {}, stream_acknowledgement(request.body).encode()

    text = f"[spool]\nseal = 'file:{secret('device.secret', 'x' * 40)}'\n{TWO}"
    bench = Bench(write_settings(text), live=False)
    bench.sources["door"].give("face", "face")
    with bench.running():
        wait_for(lambda: bench.loops["door"].seen == ["face", "face"])
    assert bench.said.of("end") == [{"faces": 2, "waiting": 2}]
    with pytest.raises(EdgeError, match="is sealed"):
        waiting(tmp_path, "door")
    with Receiver(answer).running() as server:
        bench = Bench(write_settings(f"[server]\nurl = '{server.url}'\n{text}"))
        with bench.running():
            wait_for(lambda: got and bench.service.status()[0].waiting == 0)
    secret("device.secret", "y" * 40)
    with pytest.raises(EdgeError, match="another secret"):
        Bench(write_settings(text))


def test_service_ends_by_itself_when_all_films_have_ended(write_settings: Write, tmp_path: Path) -> None:
    bench = Bench(write_settings(TWO), live=False)
    for source in bench.sources.values():
        source.give("visit", None)
    assert bench.service.run()
    assert (waiting(tmp_path, "door"), waiting(tmp_path, "yard")) == (1, 1)


def test_faces_and_events_leave_while_cameras_run(write_settings: Write, secret: Callable[[str, str], Path]) -> None:
    def answer(request: Received) -> tuple[int, dict[str, str], bytes]:
        return 200, {}, stream_acknowledgement(request.body).encode() if "frames" in request.path else b""

    with Receiver(answer).running() as server:
        text = f"[server]\nurl = '{server.url}'\ntoken_file = '{secret('token', 'edge_1')}'\nbudget = '1MB/s'\n{TWO}"
        hook = f"[[events.webhook]]\nurl = '{server.url}/hook'\nsecret_file = '{secret('secret', 'x')}'\n"
        bench = Bench(write_settings(text + hook))
        bench.sources["door"].give("face")
        bench.sources["yard"].give("visit")
        with bench.running():
            wait_for(lambda: bench.service.status()[0].delivered == 1)
            wait_for(lambda: [one for one in server.received if one.path == "/hook"])
        sent = [json.loads(one.body) for one in server.received if one.path == "/hook"]
        assert [one["camera"] for one in sent] == ["yard", "yard"]  # it began, and ended with the service
        assert sent[0]["id"] == sent[1]["id"]
        assert [one["kind"] for one in bench.said.of("track")] == ["new", "end"]


def test_probes_tell_of_cameras_and_spools(write_settings: Write, tmp_path: Path) -> None:
    bench = Bench(write_settings(f"[metrics]\nport = 0\nsilent_after = 0.3\n{TWO}"))
    with bench.running():
        bench.sources["door"].give("wall")
        wait_for(lambda: bench.loops["door"].seen)
        wait_for(lambda: bench.get("/ready").status_code == 503)
        assert "camera yard: no picture for " in bench.get("/ready").text
        assert bench.get("/health").status_code == 200
        assert 'edge_stscq_camera_pictures_total{camera="door"} 1.0' in bench.get("/metrics").text
        stop = threading.Event()

        def film() -> None:
            while not stop.wait(0.02):
                for source in bench.sources.values():
                    source.give("wall")

        thread = threading.Thread(target=film)
        thread.start()
        wait_for(lambda: bench.get("/ready").status_code == 200)
        stop.set()
        thread.join()
    assert bench.said.of("listening") == [{"address": bench.service.address}]


def test_self_test_that_fails_opens_no_camera_and_is_told(write_settings: Write) -> None:
    bench = Bench(write_settings(f"[metrics]\nport = 0\n{TWO}"), self_test="other tokens")
    with bench.running():
        wait_for(lambda: bench.said.of("trouble"))
        assert bench.get("/ready").text == "self-test: other tokens\n"
        assert bench.get("/health").status_code == 200
    assert bench.passed is False
    assert bench.loops["door"].seen == []


def test_spool_of_another_camera_is_refused_before_anything_begins(write_settings: Write, tmp_path: Path) -> None:
    with Spool(tmp_path / "spools" / "yard.spool", "door"):
        pass
    with pytest.raises(EdgeError, match="holds faces of device door"):
        Bench(write_settings(TWO))


def test_systemd_hears_of_start_life_and_end(
    write_settings: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "300000")
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        bench = Bench(write_settings(TWO))
        with bench.running():
            assert [manager.recv(100) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
        while (word := manager.recv(100)) == b"WATCHDOG=1":
            pass
        assert word == b"STOPPING=1"


def test_worker_that_stands_still_gives_no_sign_of_life(write_settings: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("demo_camera.service.runner.LONGEST_STEP", 0.8)
    bench = Bench(write_settings(f"[metrics]\nport = 0\n{TWO}"))
    with bench.running():
        wait_for(lambda: bench.said.of("listening"))
        bench.loops["door"].hold.set()
        bench.sources["door"].give("wall")
        wait_for(lambda: bench.get("/health").status_code == 503)
        bench.loops["door"].hold.clear()
        wait_for(lambda: bench.get("/health").status_code == 200)
