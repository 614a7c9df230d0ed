"""Network cameras that are really there: GStreamer's RTSP server, stopped and started, and MJPEG over HTTP."""

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from demo_camera.sources import Backoff, SourceOptions, open_source
from edge_stscq.errors import EdgeError
from tests.support.installed import absent
from tests.support.sources.mjpeg_server import MjpegCamera, serve_mjpeg
from tests.support.sources.pictures import Lines, file_of, film

SERVER = Path(__file__).parents[2] / "support" / "sources" / "rtsp_server.py"
PYTHON = "/usr/bin/python3"
PACKAGES = "gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-base -good -ugly"
SOON = SourceOptions(timeout=10, backoff=Backoff(0.05, 0.2))
Start = Callable[..., subprocess.Popen[str]]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def gstreamer() -> None:
    need = (
        "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gst, GstRtspServer;"
        "Gst.init(None); assert all(map(Gst.ElementFactory.find, ('videotestsrc', 'x264enc', 'rtph264pay')))"
    )
    try:
        done = subprocess.run([PYTHON, "-c", need], capture_output=True, timeout=60, check=False)
    except OSError:
        absent(PYTHON, "apt-get install python3")
    if done.returncode:
        absent("GStreamer's RTSP server", f"apt-get install {PACKAGES}")


@pytest.fixture
def start(gstreamer: None) -> Iterator[Start]:
    """Start an RTSP server on a port and wait until it listens; all are stopped at the end."""
    started: list[subprocess.Popen[str]] = []

    def run(port: int, *account: str) -> subprocess.Popen[str]:
        server = subprocess.Popen([PYTHON, str(SERVER), str(port), "/cam", *account], stdout=subprocess.PIPE, text=True)
        started.append(server)
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        return server

    yield run
    for server in started:
        server.kill()
        server.wait()
        assert server.stdout is not None
        server.stdout.close()


def jpegs() -> list[bytes]:
    return [file_of(np.full((48, 64, 3), 25 * level, np.uint8)) for level in range(10)]


def test_rtsp_is_read_stopped_and_started_under_the_camera(start: Start, lines: Lines) -> None:
    port = free_port()
    server = start(port)
    source = open_source(f"rtsp://127.0.0.1:{port}/cam", SOON, lines)
    assert source.live
    pictures = source.pictures()
    first = next(pictures)
    assert first.image.shape == (120, 160, 3)
    assert first.captured_ms
    for cut in (1, 2):
        server.kill()
        server.wait()
        server = start(port)
        while source.counters.reconnects < cut:
            assert next(pictures).image.shape == (120, 160, 3)
    source.close()
    assert list(pictures) == []
    assert source.counters.reconnects == 2
    assert all(line.startswith(f"rtsp://127.0.0.1:{port}/cam ") and "connecting again" in line for line in lines.said)


def test_rtsp_that_stalls_is_noticed_and_connected_again(start: Start) -> None:
    """The server's process is stopped, so that the connection stays and nothing comes, until the stall was said."""
    port = free_port()
    server = start(port)

    class GoOn(Lines):
        def say(self, line: str) -> None:
            super().say(line)
            os.kill(server.pid, signal.SIGCONT)

    said = GoOn()
    options = SourceOptions(timeout=5, backoff=Backoff(0.05, 0.2))
    source = open_source(f"rtsp://127.0.0.1:{port}/cam", options, said)
    pictures = source.pictures()
    next(pictures)
    os.kill(server.pid, signal.SIGSTOP)
    while not source.counters.reconnects:
        next(pictures)
    source.close()
    assert said.said[0].startswith(f"rtsp://127.0.0.1:{port}/cam ")
    assert "connecting again" in said.said[0]


def test_rtsp_asks_for_a_password_that_is_never_printed(start: Start, lines: Lines) -> None:
    port = free_port()
    start(port, "me:s3cret")
    source = open_source(f"rtsp://me:s3cret@127.0.0.1:{port}/cam", SOON, lines)
    picture = next(source.pictures())
    assert source.name == f"rtsp://me:***@127.0.0.1:{port}/cam"
    assert "s3cret" not in picture.name
    with pytest.raises(EdgeError, match=r"cannot be opened; check the address, the password") as refused:
        next(open_source(f"rtsp://me:s3cret2@127.0.0.1:{port}/cam", SOON).pictures())
    assert "s3cret" not in str(refused.value)


def test_an_address_at_which_nobody_listens_is_refused_soon() -> None:
    for scheme in ("rtsp", "http"):
        with pytest.raises(EdgeError, match=f"^{scheme}://127.0.0.1:[0-9]+/cam cannot be opened; check the address"):
            next(open_source(f"{scheme}://127.0.0.1:{free_port()}/cam", SOON).pictures())


def test_a_server_that_accepts_and_says_nothing_is_refused_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"rtsp://127.0.0.1:{silent.getsockname()[1]}/cam"
        with pytest.raises(EdgeError, match=r"cannot be opened|gave no picture for 0\.3 s"):
            next(open_source(address, SourceOptions(timeout=0.3)).pictures())


def test_mjpeg_over_http_with_a_password(lines: Lines) -> None:
    with serve_mjpeg(MjpegCamera(jpegs(), account="me:s3cret")) as camera:
        source = open_source(f"http://me:s3cret@{camera.place}/v?key=s3cret", SOON, lines)
        pictures = source.pictures()
        levels = {int(next(pictures).image[0, 0, 0]) // 25 for _ in range(6)}
        assert len(levels) > 2
        assert source.name == f"http://me:***@{camera.place}/v?key=***"
        with pytest.raises(EdgeError, match="cannot be opened") as refused:
            next(open_source(f"http://me:wrong-s3cret@{camera.place}/v", SOON).pictures())
        assert "s3cret" not in str(refused.value) + "".join(lines.said)
        source.close()
        assert list(pictures) == []


@pytest.mark.parametrize("fault", ["cut", "stall"])
def test_mjpeg_that_ends_is_connected_again(fault: str, lines: Lines) -> None:
    camera = MjpegCamera(jpegs(), cut_after=4 if fault == "cut" else None, stall_after=4 if fault == "stall" else None)
    options = SourceOptions(timeout=0.5, backoff=Backoff(0.02, 0.05))
    with serve_mjpeg(camera):
        source = open_source(f"http://{camera.place}/v", options, lines)
        for _ in source.pictures():
            if source.counters.reconnects == 2:
                source.close()
        assert camera.connections >= 3
    assert len(lines.said) >= 2
    assert all("connecting again in 0.0 s" in line for line in lines.said)


def test_closing_ends_a_camera_that_stalls(lines: Lines) -> None:
    with serve_mjpeg(MjpegCamera(jpegs(), stall_after=10)) as camera:
        source = open_source(f"http://{camera.place}/v", SourceOptions(timeout=600), lines)
        pictures = source.pictures()
        next(pictures)
        source.close()
        assert list(pictures) == []
        assert lines.said == []


def test_a_film_behind_an_address_is_read_once_and_whole(tmp_path: Path) -> None:
    """No picture of it is out of date, however slowly they are taken."""
    import functools
    import http.server
    import threading

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    film(tmp_path / "a.avi", [np.full((48, 64, 3), 20 * level, np.uint8) for level in range(12)], "MJPG")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        source = open_source(f"http://127.0.0.1:{server.server_address[1]}/a.avi", SOON)
        pictures = list(source.pictures())
        server.shutdown()
        thread.join()
    assert len(pictures) == 12
    assert [picture.at for picture in pictures] == pytest.approx([number / 10 for number in range(12)])
    assert {picture.captured_ms for picture in pictures} == {None}
    assert source.counters.by_name() == {"pictures": 12, "damaged": 0, "skipped": 0, "dropped": 0, "reconnects": 0}
