"""The real thing: `edge-stscq serve` in its own process, `edge-stscq send` in another, and a power cut between."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from edge_stscq.errors import EdgeError
from edge_stscq.server.decode_service import DecodeService, Job
from edge_stscq.stream import CodedFace, FrameCodec

COMMAND = [sys.executable, "-c", "from edge_stscq.cli import main; main()"]
TOKEN = "0123456789abcdef0123456789abcdef"
MakeFaces = Callable[..., list[CodedFace]]


def environment(**extra: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "EDGE_STSCQ_TOKEN"}
    return kept | {"OMP_NUM_THREADS": "1"} | extra


@contextmanager
def served(*arguments: object, **extra: str) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """A server on a free port; its address and process. It is asked to end, and must, unless it is dead already."""
    process = subprocess.Popen(
        [*COMMAND, "serve", "--port", "0", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(**extra),
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = re.search(r"http://\S+", line)
        assert address, line + process.communicate(timeout=180)[1]
        yield address[0], process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            _, errors = process.communicate(timeout=180)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
    assert process.returncode in (0, -signal.SIGKILL)
    assert errors == ""


def run(*arguments: object, **extra: str) -> "subprocess.CompletedProcess[str]":
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False, env=environment(**extra))


def test_frames_cross_the_wire_and_survive_a_kill(
    tiny_model: Path, tmp_path: Path, service: DecodeService, make_faces: MakeFaces
) -> None:
    faces, stream, store = make_faces(5), tmp_path / "faces.stsq", tmp_path / "faces.db"
    stream.write_bytes(service.codec.encode_stream(faces))
    with served("--model", tiny_model, "--store", store) as (url, process):
        sent = run("send", stream, "--url", url, "--device", "cam", "--start-sequence", 7, "--batch", 2, "--json")
        assert (sent.returncode, sent.stderr) == (0, "")
        counters = json.loads(sent.stdout)
        assert {key: counters[key] for key in ("frames", "stored", "duplicate", "requests", "retries")} == {
            "frames": 5, "stored": 5, "duplicate": 0, "requests": 3, "retries": 0,
        }  # fmt: skip
        process.kill()
        process.wait(180)
    with served("--model", tiny_model, "--store", store) as (url, _):
        again = run("send", stream, "--url", url, "--device", "cam", "--start-sequence", 7)
        assert again.returncode == 0
        assert "5 frames acknowledged: 0 stored, 0 extended, 5 duplicate" in again.stdout
        png = httpx2.get(f"{url}/v1/faces/cam-9.png?layers=2", timeout=180)
        assert png.content == service.paint_png([Job(faces[2], 2)])[0]

        foreign = tmp_path / "foreign.stsq"
        foreign.write_bytes(FrameCodec(service.codec.tables, b"\xab" * 8).encode_stream(faces))
        refused = run("send", foreign, "--url", url)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert re.fullmatch(r"error: .*refused.* 409 .*abababababababab.*\n", refused.stderr)


def test_a_token_opens_a_public_bind_and_nothing_else_does(
    tiny_model: Path, tmp_path: Path, service: DecodeService, make_faces: MakeFaces
) -> None:
    stream, place = tmp_path / "faces.stsq", ("--model", tiny_model, "--store", tmp_path / "faces.db")
    stream.write_bytes(service.codec.encode_stream(make_faces(1)))
    refused = run("serve", *place, "--host", "0.0.0.0", "--port", 0)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert re.fullmatch(r"error: .*EDGE_STSCQ_TOKEN.*\n", refused.stderr)
    assert not (tmp_path / "faces.db").exists()
    with served(*place, "--host", "0.0.0.0", EDGE_STSCQ_TOKEN=TOKEN) as (url, _):
        url = url.replace("0.0.0.0", "127.0.0.1")
        assert "401" in run("send", stream, "--url", url).stderr
        assert run("send", stream, "--url", url, EDGE_STSCQ_TOKEN=TOKEN).returncode == 0


def test_a_server_that_cannot_start_says_why(tiny_model: Path, tmp_path: Path) -> None:
    from edge_stscq.cli.serve import serve

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EdgeError, match=f"cannot listen on 127.0.0.1 port {port}: .*choose another --port"):
            serve(tiny_model, tmp_path / "faces.db", port=port)
    with pytest.raises(EdgeError, match="cannot listen on no.such.host.invalid"):
        serve(tiny_model, tmp_path / "faces.db", host="no.such.host.invalid", token=TOKEN)
    with pytest.raises(EdgeError, match="none/config.json does not exist"):
        serve(tmp_path / "none", tmp_path / "faces.db", port=0)
    with pytest.raises(EdgeError, match="choose another --store"):
        serve(tiny_model, tmp_path, port=0)
